"""Which cells are worked on next, and what a lost or broken batch means for each of its cells. No processes here."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medgr2.infra.purse import Purse
from medgr2.infra.worker import Trouble
from medgr2.schemas.cells import Cell, Outcome


class Dispatch:
    """A batch that fails as a whole is tried again cell by cell, so that its one bad cell stands alone.

    A batch that raises costs its cells no attempt. A lost one (its process died, or passed the deadline) costs one,
    but a cell is given up only after it was lost alone: batch mates of a poison cell always get a try of their own.
    Cells begin in the order given, as far as the purse goes.
    """

    def __init__(
        self, cells: Sequence[Cell], tries: Mapping[str, int], batch_size: int, attempts: int, purse: Purse
    ) -> None:
        self._cells = cells
        self._next = 0
        self._back: deque[list[Cell]] = deque()
        self._single: deque[Cell] = deque()
        self._tries = dict(tries)
        self._batch_size = batch_size
        self._attempts = attempts
        self._purse = purse

    def __len__(self) -> int:
        """Batches that could be handed out now."""
        fresh = min(len(self._cells) - self._next, self._purse.room())
        return len(self._back) + len(self._single) - (-fresh // self._batch_size)

    def next_batch(self) -> list[Cell] | None:
        if self._back:
            return self._back.popleft()
        if n := self._purse.begin(min(self._batch_size, len(self._cells) - self._next)):
            self._next += n
            return list(self._cells[self._next - n : self._next])
        return [self._single.popleft()] if self._single else None

    def put_back(self, batch: list[Cell]) -> None:
        """Handed over but never begun: nothing happened to it."""
        self._back.appendleft(batch)

    def finished(self, outcome: Outcome) -> Outcome:
        attempt = self._tries.get(outcome.key, 0) + 1
        return outcome if attempt == outcome.attempt else replace(outcome, attempt=attempt)

    def raised(self, unfinished: Sequence[Cell], trouble: Trouble, *, alone: bool) -> list[Outcome]:
        if alone:
            return [self.finished(Outcome.failed(cell, trouble.reason, trouble.detail)) for cell in unfinished]
        self._single.extend(unfinished)
        return []

    def lost(self, unfinished: Sequence[Cell], reason: str, detail: str, *, alone: bool) -> list[Outcome]:
        given_up: list[Outcome] = []
        for cell in unfinished:
            tried = self._tries.get(cell.key, 0) + 1
            self._tries[cell.key] = tried
            if alone and tried >= self._attempts:
                given_up.append(replace(Outcome.failed(cell, reason, detail), attempt=tried))
            else:
                self._single.append(cell)
        return given_up
