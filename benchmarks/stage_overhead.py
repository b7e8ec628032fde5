"""What the stage contract costs: CPU per cell of plan + dispatch + journal with a worker that does nothing, and how
long a night takes to find out that everything is done.

python benchmarks/stage_overhead.py [CELLS] [MODE]        MODE is inline (default) or ray-local
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.reports import Plan
from medgr2.tasks.stage import StageRequest, StageResult, run_stage

T = TypeVar("T")
NEW = 1000
VALUE = {
    "question": "Where is the finding in this picture?",
    "options": ["upper left", "upper right", "lower left", "lower right"],
    "answer": "B",
    "rationale": "The scan shows a round bright nodule of moderate size in the upper right quadrant.",
}


class NoWork:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        pass

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        return [Outcome.accepted(cell, {**VALUE, "n": cell.inputs["n"]}) for cell in cells]


def timed(label: str, n: int, do: Callable[[], T]) -> T:
    wall, cpu = time.perf_counter(), time.process_time()
    result = do()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{label:<42} {wall:8.2f} s wall {cpu:8.2f} s CPU {cpu / n * 1e6:8.1f} us CPU/cell   peak {peak:6.0f} MB")
    return result


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    mode = sys.argv[2] if len(sys.argv) > 2 else "inline"
    print(f"$ python {' '.join(sys.argv)}")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    recipe = Recipe(stage="nowork", code="1")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            storage=StorageSettings(root=folder), compute=ComputeSettings.model_validate({"mode": mode})
        )
        store = FolderStore(folder)
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        request = StageRequest(recipe=recipe, worker="stage_overhead:NoWork", run="bench", batch_size=256)

        def run() -> StageResult:
            return run_stage(request, cells, settings=settings, store=store)

        cells = timed("make cells and keys", n, lambda: [recipe.cell(inputs={"n": i}) for i in range(n)])
        timed(f"run everything ({mode})", n, run)
        held = [info.size for info in store.list("journal/")]
        print(f"{'journal':<42} {len(held):8} segments {sum(held) / 1e6:8.1f} MB {sum(held) / n:8.1f} bytes/cell")
        index = timed("open the journal: index only", n, lambda: Journal(store, "nowork").index())
        assert len(index) == n
        keys = [cell.key for cell in cells]
        timed("look up all keys", n, lambda: index.held(index.find(keys)))
        timed("values of 1000 keys, journal opened anew", 1000, lambda: Journal(store, "nowork").outcomes(keys[:1000]))
        again = [timed("run again: all reused", n, run)]
        timed("and all their values, in order", n, lambda: sum(1 for _ in again[0].pairs()))
        for held_in_memory in (again, cells, keys):
            held_in_memory.clear()
        plans: list[Plan] = []
        firsts: list[float] = []

        def grown() -> None:
            given = [recipe.cell(inputs={"n": i}) for i in range(n + NEW)]
            run_stage(
                request,
                given,
                settings=settings,
                store=store,
                on_plan=plans.append,
                on_progress=lambda _: firsts.append(time.perf_counter()),
            )

        began = time.perf_counter()
        timed(f"{NEW} more cells: keys, plan, work", n, grown)
        assert (plans[0].new, plans[0].reused) == (NEW, n)
        print(f"{'from nothing to the first new outcome':<42} {firsts[0] - began:8.2f} s")


if __name__ == "__main__":
    main()
