"""What a stage tells the lake: its outcomes and one row of `runs`, exactly once each, however often it is told."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from medgr2.infra.lake import Lake
from medgr2.schemas.cells import Outcome
from medgr2.schemas.digest import digest_of_ids
from medgr2.schemas.reports import StageReport
from medgr2.schemas.tables import OUTCOMES
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.stage_request import StageRequest, StageResult


def record(lake: Lake, request: StageRequest, result: StageResult) -> None:
    record_outcomes(lake, request, result)
    # The same run told again is the same row, whatever its plan was then; a retry that changed a verdict is a new one.
    state = digest_of_ids(
        f"{o.key}:{o.verdict}:{o.attempt if o.verdict is Verdict.FAILED else 0}" for o in result.outcomes.values()
    )
    record_run(lake, request, result.report, state)


def record_outcomes(lake: Lake, request: StageRequest, result: StageResult) -> None:
    """An attempt at a cell is one row of `outcomes`, of whichever run told of it first.

    Two runs side by side, or a journal that lost a segment, may fail and finish the same attempt: both are told."""
    now = datetime.now(UTC)
    stage, recipe = request.recipe.stage, request.recipe.digest
    told = [(cell, result.outcomes[cell.key]) for cell in result.cells]
    n = len(told)
    columns = {
        "outcome_id": [_outcome_id(o) for _, o in told],
        "key": [o.key for _, o in told],
        "stage": [stage] * n,
        "recipe": [recipe] * n,
        "image_id": [cell.image or None for cell, _ in told],
        "outcome": [o.verdict.value for _, o in told],
        "reason": [o.reasons[0] if o.reasons else None for _, o in told],
        "reasons": [list(o.reasons) for _, o in told],
        "detail": [o.detail for _, o in told],
        "attempt": [o.attempt for _, o in told],
        "run": [request.run] * n,
        "finished_at": [now] * n,
    }
    lake.append_new("outcomes", pa.table(columns, schema=OUTCOMES.schema), key="outcome_id")


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
            }
        ],
        once=f"runs:{request.run}:{stage}:{recipe}:{state}",
    )


def _outcome_id(outcome: Outcome) -> str:
    failed = ":failed" if outcome.verdict is Verdict.FAILED else ""
    return f"{outcome.key}:{outcome.attempt}{failed}"
