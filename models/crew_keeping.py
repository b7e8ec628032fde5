"""Stores the checkpoints that a crew writes, from outside of it: its processes hold no key to any store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from medgr2.infra import notice
from medgr2.models.care import Care
from medgr2.models.checkpoints import latest_checkpoint, step_of
from medgr2.models.resuming import keeper
from medgr2.models.watch import Watch

STATE = "trainer_state.json"


class Keeping:
    """Looks at the scratch folder from time to time; one checkpoint at a time is stored, in a thread of its own."""

    def __init__(self, scratch: Path, how: Care, every: int) -> None:
        self._scratch, self._how = scratch, how
        self._watch = Watch(how.stall_seconds, how.grace_seconds)
        self._keep = keeper(how, self._watch, every)
        self._under_way: threading.Thread | None = None
        if (found := latest_checkpoint(scratch)) is not None:
            self._watch.saved = step_of(found)

    def look(self) -> None:
        if self._under_way is not None and self._under_way.is_alive():
            return
        found = latest_checkpoint(self._scratch)
        if found is None or step_of(found) <= self._watch.saved:
            return
        self._watch.saved = step_of(found)
        # Links: it is not taken away while it is stored.
        held = self._scratch / f"writing-kept-{self._watch.saved}"
        try:
            shutil.copytree(found, held, copy_function=os.link)
        except OSError:
            return  # it was too old to be kept, and has gone
        # A daemon: a store that does not answer must not keep the process from ending.
        self._under_way = threading.Thread(
            target=self._store, args=(held, self._watch.saved), name="keeping", daemon=True
        )
        self._under_way.start()

    def finish(self) -> None:
        """Of those who trained nobody is left. What they saved last is stored as well, if there is time for it."""
        self._wait()
        self.look()
        self._wait()

    def kept(self) -> str:
        return f"the checkpoint of step {self._watch.saved}" if self._watch.saved else "no step: it had just begun"

    def _store(self, held: Path, step: int) -> None:
        # The scratch folder goes when the model is there, and what is kept of it is not needed any more.
        with contextlib.suppress(FileNotFoundError):
            self._keep(held, step, _history(held))
        shutil.rmtree(held, ignore_errors=True)

    def _wait(self) -> None:
        if self._under_way is not None:
            left = max(0.0, self._how.grace_seconds - notice.age()) if notice.given() else self._how.stall_seconds
            self._under_way.join(left)


def _history(checkpoint: Path) -> list[dict[str, Any]]:
    return list(json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["log_history"])
