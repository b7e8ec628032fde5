"""A driver for the kill tests: one stage of counted cells, killed by itself at the n-th write if it is told to.

python stage_driver.py ROOT MODE WORKERS BATCH CELLS SECONDS [kill=before:3] [threads]
Writes ROOT.json: what came of every cell.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from medgr2.infra import journal, journal_writer
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.schemas.cells import Recipe
from medgr2.tasks.stage import StageRequest, StageResult, run_stage

# Small, so that merges are among the writes at which a kill may come, and few cells wait for a slow write.
journal.FAN_IN = journal_writer.FAN_IN = 3
journal_writer.BACKLOG = 5


class DeadlyStore(FolderStore):
    """Ends its process before or after the n-th change of the store, as a power cut would."""

    def __init__(self, root: str, kill: str) -> None:
        super().__init__(root)
        self._when, _, at = kill.partition(":")
        self._left = int(at or 0)
        self._counting = threading.Lock()

    def _step(self, when: str) -> None:
        with self._counting:
            if when == self._when:
                self._left -= 1
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    def create(self, key: str, data: bytes) -> bool:
        self._step("before")
        made = super().create(key, data)
        self._step("after")
        return made

    def delete(self, key: str) -> None:
        self._step("before")
        super().delete(key)
        self._step("after")


def main() -> None:
    root, mode, workers, batch, n, seconds, *rest = sys.argv[1:]
    kill = next((word.removeprefix("kill=") for word in rest if word.startswith("kill=")), "")
    settings = Settings(
        storage=StorageSettings(root=root),
        compute=ComputeSettings.model_validate(
            {"mode": mode, "workers": workers, "address": os.environ.get("MEDGR2_COMPUTE__ADDRESS", "")}
        ),
    )
    recipe = Recipe(stage="squares", code="1")
    bad = dict.fromkeys(range(0, int(n), 9), "reject")
    cells = [recipe.cell(inputs={"n": i} | ({"do": bad[i]} if i in bad else {})) for i in range(int(n))]
    os.environ["STAGE_SECONDS"] = seconds
    request = StageRequest(recipe=recipe, worker="held_workers:Holding", run="night", batch_size=int(batch))
    store = DeadlyStore(root, kill)
    results: list[StageResult] = []

    def work(upto: int) -> None:
        results.append(run_stage(request, cells[:upto], settings=settings, store=store))

    if "threads" in rest:
        # As a flow does: each stage in a thread of its own, which ends with it.
        for upto in (1, int(n)):
            thread = threading.Thread(target=work, args=(upto,))
            thread.start()
            thread.join()
    else:
        work(int(n))
    said = {key: [o.verdict, o.value, o.reasons] for key, o in results[-1].outcomes.items()}
    Path(root + ".json").write_text(json.dumps([said, results[-1].report.plan.model_dump()]))


if __name__ == "__main__":
    main()
