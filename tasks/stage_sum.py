"""The end of a stage: what it did this time, what the journal holds of all its cells, and whether the counts agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from medgr2.infra.journal import Journal
from medgr2.infra.journal_index import NEVER
from medgr2.infra.journal_segment import VERDICTS
from medgr2.infra.journal_values import HeldOutcomes
from medgr2.infra.purse import Purse
from medgr2.schemas.cells import Outcome
from medgr2.schemas.errors import DataError
from medgr2.schemas.reports import Plan, StageReport
from medgr2.schemas.usage import NOTHING_USED
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.stage_request import Limit, StageResult
from medgr2.tasks.stage_survey import Survey

KEPT = 20_000
"""Fresh outcomes that are kept at hand; of more, all are read back from the journal where they are wanted."""


class Fresh:
    """What a run has done so far."""

    def __init__(self, place: Mapping[str, int]) -> None:
        self._place = place
        self.outcomes: dict[str, Outcome] = {}
        self.failures: Counter[str] = Counter()
        self.usage = NOTHING_USED
        self.told = 0
        self.well = 0
        self.strangers = 0
        """Outcomes of cells that nobody asked for."""

    def add(self, outcome: Outcome) -> None:
        self.told += 1
        if outcome.key not in self._place:
            self.strangers += 1
            return
        if self.told <= KEPT:
            self.outcomes[outcome.key] = outcome
        elif self.outcomes:
            self.outcomes = {}
        if outcome.verdict is Verdict.FAILED:
            self.failures.update(outcome.reasons)
        else:
            self.well += 1
        if outcome.usage is not None:
            self.usage += outcome.usage


def sum_up(
    found: Survey, made: Plan, journal: Journal, fresh: Fresh, purse: Purse, limit: Limit, seconds: float
) -> StageResult:
    keys = list(found.place)
    index = journal.index()
    at = index.find(keys)
    verdict, attempt = index.held(at)
    counts = dict(zip(*np.unique(verdict, return_counts=True), strict=True))
    of = {word: int(counts.get(n, 0)) for n, word in enumerate(VERDICTS)}
    left = int(counts.get(NEVER, 0))
    report = StageReport(
        plan=made,
        accepted=of[Verdict.ACCEPTED],
        rejected=of[Verdict.REJECTED],
        failed=of[Verdict.FAILED],
        reasons=dict(journal.reasons(keys).most_common()),
        seconds=seconds,
        left=left,
        budget=purse.line(),
        usage=fresh.usage,
    )
    if not report.conserved() or fresh.strangers or (left and limit.budget is None):
        missing = np.flatnonzero(verdict == NEVER)
        raise DataError(
            f"{made.stage}: found {made.found} cells, but {report.accepted} accepted + {report.rejected} "
            f"rejected + {report.failed} failed; {left} without an outcome",
            where=f"first without: {keys[missing[0]]}" if left else "outcomes of cells that nobody asked for",
            kept="every finished cell, in the journal",
            next_command="run the same command again; if it says the same, report it",
        )
    # Another run may have finished one of them first, or better: then what it said holds.
    same = {
        key: outcome
        for key, outcome in fresh.outcomes.items()
        if VERDICTS[verdict[n := found.place[key]]] is outcome.verdict and attempt[n] == outcome.attempt
    }
    outcomes = HeldOutcomes(journal, found.place, verdict, attempt, same)
    asked = int(np.argmax(verdict == NEVER)) if left else len(keys)
    return StageResult(report, found.cells, outcomes, asked, journal.damaged)
