"""One stage over pictures, wherever it is told: python cluster_driver.py ROOT inline|ray-local|cluster CELLS BATCH

Prints what came of it, and how many bytes go to a worker with a batch.
"""

from __future__ import annotations

import json
import pickle
import sys

from medgr2.infra.compute import Inline
from medgr2.infra.compute_ray import RayPool
from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.schemas.cells import Recipe
from medgr2.tasks.stage import StageRequest, run_stage

RECIPE = Recipe(stage="looks", code="1")


def main() -> None:
    root, mode, n, batch, *size = sys.argv[1:]
    settings = Settings(storage=StorageSettings(root=root), compute=ComputeSettings(mode="ray-local", workers=0))
    store = open_store(settings.storage)
    images = ImageStore(store, settings.storage.cache_folder)
    large = int(size[0]) if size else 1000
    pictures = [images.put(bytes([i % 251]) * large) for i in range(int(n))]
    cells = [RECIPE.cell(image=sha, inputs={"n": i}) for i, sha in enumerate(pictures)]
    request = StageRequest(recipe=RECIPE, worker="cluster_workers:Looking", run="night", batch_size=int(batch))
    compute = {"inline": Inline, "ray-local": RayPool.local, "cluster": RayPool.cluster}[mode](settings)
    result = run_stage(request, cells, settings=settings, store=store, compute=compute)
    report = result.report
    said = {
        "digest": result.digest,
        "found": report.plan.found,
        "accepted": report.accepted,
        "rejected": report.rejected,
        "failed": report.failed,
        "batch_bytes": len(pickle.dumps(cells[: int(batch)])),
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
