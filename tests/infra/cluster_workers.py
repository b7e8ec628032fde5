"""A worker that looks at pictures, and says in a file which node did what."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.schemas.cells import Cell, Outcome, Recipe


class Looking:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)
        self._log = Path(settings.storage.root).parent / "executions.log"
        self._seconds = float(os.environ.get("STAGE_SECONDS", "0"))

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        for cell in cells:
            with self._log.open("a") as f:
                f.write(f"{cell.key} {_node()} {os.getpid()}\n")
            time.sleep(self._seconds)
            data = self._images.path(cell.image).read_bytes()
            if cell.inputs["n"] % 9 == 0:
                yield Outcome.rejected(cell, "ninth")
            else:
                yield Outcome.accepted(cell, {"bytes": len(data), "sum": sum(data), "seed": cell.seed % 1000})


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else "none"
