"""What a stage tells the lake: its outcomes and one row of `runs`, exactly once each, however often it is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.journal_index import NEVER
from medgr2.infra.journal_segment import FAILED
from medgr2.infra.lake import Lake
from medgr2.schemas.cells import Cell, Outcome
from medgr2.schemas.reports import StageReport
from medgr2.schemas.tables import OUTCOMES
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.stage_request import StageRequest, StageResult

TOLD_AT_ONCE = 20_000
FEW = 1000
"""Of so many the lake looks for itself which it holds."""
_USAGE = ("calls", "tokens_in", "tokens_out", "seconds", "money")


def record(lake: Lake, request: StageRequest, result: StageResult) -> None:
    record_outcomes(lake, request, result)
    # The same run told again is the same row, whatever its plan was then; a retry that changed a verdict is a new one.
    record_run(lake, request, result.report, result.outcomes.state)


def record_outcomes(lake: Lake, request: StageRequest, result: StageResult) -> None:
    """An attempt at a cell is one row of `outcomes`, of whichever run told of it first.

    Two runs side by side, or a journal that lost a segment, may fail and finish the same attempt: both are told.
    What a run that was killed had no time to tell is told by the next one that meets it."""
    untold = _untold(lake, request.recipe.stage, result)
    for first in range(0, len(untold), TOLD_AT_ONCE):
        told = [(cell, result.outcomes[cell.key]) for cell in untold[first : first + TOLD_AT_ONCE]]
        lake.append_new("outcomes", _rows(request, told), key="outcome_id")


def _untold(lake: Lake, stage: str, result: StageResult) -> list[Cell]:
    """The cells whose outcomes the lake may not hold: a million that it holds are not made into rows to find out."""
    standing = zip(result.cells, result.outcomes.verdict.tolist(), result.outcomes.attempt.tolist(), strict=True)
    done = [(cell, verdict, attempt) for cell, verdict, attempt in standing if verdict != NEVER]
    cells = [cell for cell, _, _ in done]
    if len(done) <= FEW:
        return cells
    held = lake.read("outcomes", columns=["outcome_id"], where={"stage": stage})["outcome_id"]
    ids = pa.array([_outcome_id(cell.key, attempt, verdict == FAILED) for cell, verdict, attempt in done])
    untold = pc.invert(pc.is_in(ids, value_set=held))
    return [cells[n] for n in pc.indices_nonzero(untold).to_pylist()]


def _rows(request: StageRequest, told: Sequence[tuple[Cell, Outcome]]) -> pa.Table:
    n, used = len(told), [o.usage for _, o in told]
    columns = {
        "outcome_id": [_outcome_id(o.key, o.attempt, o.verdict is Verdict.FAILED) for _, o in told],
        "key": [o.key for _, o in told],
        "stage": [request.recipe.stage] * n,
        "recipe": [request.recipe.digest] * n,
        "image_id": [cell.image or None for cell, _ in told],
        "outcome": [o.verdict.value for _, o in told],
        "reason": [o.reasons[0] if o.reasons else None for _, o in told],
        "reasons": [list(o.reasons) for _, o in told],
        "detail": [o.detail for _, o in told],
        "attempt": [o.attempt for _, o in told],
        "run": [request.run] * n,
        "finished_at": [datetime.now(UTC)] * n,
        **{name: [u and getattr(u, name) for u in used] for name in _USAGE},
    }
    return pa.table(columns, schema=OUTCOMES.schema)


def record_run(lake: Lake, request: StageRequest, report: StageReport, state: str) -> None:
    """One row of `runs` for each state in which a run was told of."""
    stage, recipe = request.recipe.stage, request.recipe.digest
    lake.append(
        "runs",
        [
            {
                "run": request.run,
                "stage": stage,
                "recipe": recipe,
                **report.plan.model_dump(include={"found", "new", "reused", "retried"}),
                **report.model_dump(include={"accepted", "rejected", "failed", "seconds"}),
                "finished_at": datetime.now(UTC),
                "not_begun": report.left,
                "calls": report.usage.calls,
                "tokens_in": report.usage.tokens_in,
                "tokens_out": report.usage.tokens_out,
                "waited": report.usage.seconds,
                "money": report.usage.money,
            }
        ],
        once=f"runs:{request.run}:{stage}:{recipe}:{state}",
    )


def _outcome_id(key: str, attempt: int, failed: bool) -> str:
    return f"{key}:{attempt}:failed" if failed else f"{key}:{attempt}"
