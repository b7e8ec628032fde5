"""What a stage finds before it begins: its cells, each once, and how the journal holds them. No values are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from medgr2.infra.journal import Journal
from medgr2.infra.journal_index import NEVER
from medgr2.infra.journal_segment import FAILED
from medgr2.schemas.cells import Cell
from medgr2.schemas.reports import Plan
from medgr2.tasks.stage_recipes import what_changed
from medgr2.tasks.stage_request import StageRequest


@dataclass(frozen=True)
class Survey:
    request: StageRequest
    journal: Journal
    cells: tuple[Cell, ...]
    place: dict[str, int]
    """Of each cell's key among the cells."""
    verdict: npt.NDArray[np.int8]
    attempt: npt.NDArray[np.int16]
    again: npt.NDArray[np.bool_]
    """Failed, with attempts left."""

    def plan(self) -> Plan:
        new, retried = int(np.count_nonzero(self.verdict == NEVER)), int(np.count_nonzero(self.again))
        recipe = self.request.recipe
        return Plan(
            stage=recipe.stage,
            recipe=recipe.digest,
            found=len(self.cells),
            new=new,
            reused=len(self.cells) - new - retried,
            retried=retried,
            because=what_changed(self.journal.store, recipe) if new else (),
        )

    def todo(self) -> list[Cell]:
        """In the order given."""
        return [self.cells[n] for n in np.flatnonzero((self.verdict == NEVER) | self.again).tolist()]

    def tries(self) -> dict[str, int]:
        """How often those that are tried again were tried."""
        return {self.cells[n].key: int(self.attempt[n]) for n in np.flatnonzero(self.again).tolist()}

    def given_up(self) -> list[str]:
        return [self.cells[n].key for n in np.flatnonzero((self.verdict == FAILED) & ~self.again).tolist()]

    @cached_property
    def done_before(self) -> int:
        return int(np.count_nonzero((self.verdict != NEVER) & ~self.again))

    @cached_property
    def failed_before(self) -> int:
        """Given up; those that are tried again are not counted until they fail again."""
        return int(np.count_nonzero((self.verdict == FAILED) & ~self.again))

    @cached_property
    def well_before(self) -> int:
        return int(np.count_nonzero((self.verdict != NEVER) & (self.verdict != FAILED)))


def survey(request: StageRequest, cells: Iterable[Cell], journal: Journal) -> Survey:
    """The request must be settled."""
    found = {cell.key: cell for cell in cells}
    unique, place = tuple(found.values()), dict(zip(found, range(len(found)), strict=True))
    del found
    index = journal.index()
    verdict, attempt = index.held(index.find(list(place)))
    again = (verdict == FAILED) & (attempt < (request.attempts or 0))
    return Survey(request, journal, unique, place, verdict, attempt, again)
