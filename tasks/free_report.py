"""The report of an evaluation without options, from rows of `evals`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medgr2.models.measures import Answer, mean_of
from medgr2.models.registry import Source
from medgr2.schemas.cycle_reports import Accuracy
from medgr2.schemas.evaluations import ClosedAccuracy, FreeEvaluation, OpenAccuracy
from medgr2.tasks.evaluate import Condition, answers
from medgr2.tasks.evaluation_report import accuracy_of, listed

Rows = Sequence[Mapping[str, Any]]


def free_report(model: Mapping[str, Any], source: Source, rows: Rows, *, run: str) -> FreeEvaluation:
    shown = [row for row in rows if row["condition"] == Condition.IMAGE]
    model_id = str(model["model_id"])
    kinds = sorted({row["question_type"] for row in shown if row["question_type"]})
    return FreeEvaluation(
        model=model_id,
        role=model["role"],
        method=model["method"],
        on=source.dataset,
        digest=source.digest,
        run=run,
        n=len(shown),
        closed=_closed([row for row in shown if row["closed"]]),
        open=_open([row for row in shown if not row["closed"]]),
        overall=accuracy_of(_answers(shown)),
        unreadable=sum(row["answer"] is None and row["failed"] is None for row in shown),
        failed=sum(row["failed"] is not None for row in shown),
        blind=accuracy_of(answers(rows, Condition.BLIND)),
        blank=accuracy_of(answers(rows, Condition.BLANK)),
        swapped=accuracy_of(answers(rows, Condition.SWAPPED)),
        controls_failed=sum(row["failed"] is not None for row in rows if row["condition"] != Condition.IMAGE),
        by_kind={
            kind: found for kind in kinds if (found := _closed([row for row in shown if row["question_type"] == kind]))
        },
        listed=listed(rows[0]),
    )


def _answers(rows: Rows) -> list[Answer]:
    return answers(rows, Condition.IMAGE)


def _closed(rows: Rows) -> ClosedAccuracy | None:
    return ClosedAccuracy(n=len(rows), accuracy=accuracy_of(_answers(rows))) if rows else None


def _open(rows: Rows) -> OpenAccuracy | None:
    if not rows:
        return None
    return OpenAccuracy(
        n=len(rows), exact=accuracy_of(_answers(rows)), f1=_mean(rows, "token_f1"), recall=_mean(rows, "token_recall")
    )


def _mean(rows: Rows, name: str) -> Accuracy:
    value, low, high = mean_of(_answers(rows), [float(row[name]) for row in rows])
    return Accuracy(value=value, low=low, high=high)
