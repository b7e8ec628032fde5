"""The report of an evaluation without options, from rows of `evals`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medgr2.models.measures import Answer, mean_of, share
from medgr2.models.registry import Source
from medgr2.schemas.cycle_reports import Accuracy
from medgr2.schemas.evaluations import FreeEvaluation, OpenAccuracy, PartAccuracy
from medgr2.tasks.evaluate import Condition, answers
from medgr2.tasks.evaluation_report import examined

Rows = Sequence[Mapping[str, Any]]


def free_report(model: Mapping[str, Any], source: Source, rows: Rows, *, run: str) -> FreeEvaluation:
    shown = [row for row in rows if row["condition"] == Condition.IMAGE]
    kinds = sorted({row["question_type"] for row in shown if row["question_type"]})
    return FreeEvaluation(
        **examined(model, rows, on=source.dataset, digest=source.digest, run=run),
        closed=_closed([row for row in shown if row["closed"]]),
        open=_open([row for row in shown if not row["closed"]]),
        overall=share(_answers(shown)),
        by_kind={
            kind: found for kind in kinds if (found := _closed([row for row in shown if row["question_type"] == kind]))
        },
    )


def _answers(rows: Rows) -> list[Answer]:
    return answers(rows, Condition.IMAGE)


def _closed(rows: Rows) -> PartAccuracy | None:
    return PartAccuracy(n=len(rows), accuracy=share(_answers(rows))) if rows else None


def _open(rows: Rows) -> OpenAccuracy | None:
    if not rows:
        return None
    return OpenAccuracy(
        n=len(rows), exact=share(_answers(rows)), f1=_mean(rows, "token_f1"), recall=_mean(rows, "token_recall")
    )


def _mean(rows: Rows, name: str) -> Accuracy:
    return mean_of(_answers(rows), [float(row[name]) for row in rows])
