"""What a stage tells the lake: its outcomes and one row of `runs`, exactly once each, however often it is told."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from medgr2.infra.lake import Lake
from medgr2.schemas.digest import digest_of_ids
from medgr2.schemas.tables import OUTCOMES
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.stage_request import StageRequest, StageResult


def record(lake: Lake, request: StageRequest, result: StageResult) -> None:
    """An attempt at a cell is one row of `outcomes`, of whichever run told of it first."""
    now = datetime.now(UTC)
    stage, recipe = request.recipe.stage, request.recipe.digest
    told = [(cell, result.outcomes[cell.key]) for cell in result.cells]
    n = len(told)
    columns = {
        "outcome_id": [f"{o.key}:{o.attempt}" for _, o in told],
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
    report = result.report
    # The same run told again is the same row, whatever its plan was then; a retry that changed a verdict is a new one.
    state = digest_of_ids(
        f"{o.key}:{o.verdict}:{o.attempt if o.verdict is Verdict.FAILED else 0}" for o in result.outcomes.values()
    )
    lake.append(
        "runs",
        [
            {
                "run": request.run,
                "stage": stage,
                "recipe": recipe,
                **report.plan.model_dump(include={"found", "new", "reused", "retried"}),
                **report.model_dump(include={"accepted", "rejected", "failed", "seconds"}),
                "finished_at": now,
            }
        ],
        once=f"runs:{request.run}:{stage}:{recipe}:{state}",
    )
