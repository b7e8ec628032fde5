"""Which cells are worked on next, and what a lost or broken batch means for each of its cells. No processes here."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medgr2.infra.worker import Trouble
from medgr2.schemas.cells import Cell, Outcome


class Dispatch:
    """A batch that fails as a whole is tried again cell by cell, so that its one bad cell stands alone.

    A batch that raises costs its cells no attempt. A lost one (its process died, or passed the deadline) costs one,
    but a cell is given up only after it was lost alone: batch mates of a poison cell always get a try of their own.
    """

    def __init__(self, cells: Sequence[Cell], tries: Mapping[str, int], batch_size: int, attempts: int) -> None:
        self._batches = deque(list(cells[i : i + batch_size]) for i in range(0, len(cells), batch_size))
        self._tries = dict(tries)
        self._attempts = attempts

    def __len__(self) -> int:
        """Batches that wait."""
        return len(self._batches)

    def next_batch(self) -> list[Cell] | None:
        return self._batches.popleft() if self._batches else None

    def put_back(self, batch: list[Cell]) -> None:
        """Handed over but never begun: nothing happened to it."""
        self._batches.appendleft(batch)

    def finished(self, outcome: Outcome) -> Outcome:
        attempt = self._tries.get(outcome.key, 0) + 1
        return outcome if attempt == outcome.attempt else replace(outcome, attempt=attempt)

    def raised(self, unfinished: Sequence[Cell], trouble: Trouble, *, alone: bool) -> list[Outcome]:
        if alone:
            return [self.finished(Outcome.failed(cell, trouble.reason, trouble.detail)) for cell in unfinished]
        self._singly(unfinished)
        return []

    def lost(self, unfinished: Sequence[Cell], reason: str, detail: str, *, alone: bool) -> list[Outcome]:
        given_up: list[Outcome] = []
        again: list[Cell] = []
        for cell in unfinished:
            tried = self._tries.get(cell.key, 0) + 1
            self._tries[cell.key] = tried
            if alone and tried >= self._attempts:
                given_up.append(replace(Outcome.failed(cell, reason, detail), attempt=tried))
            else:
                again.append(cell)
        self._singly(again)
        return given_up

    def _singly(self, cells: Sequence[Cell]) -> None:
        self._batches.extend([cell] for cell in cells)
