"""The report of an evaluation, from rows of `evals`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.models import other_scorers
from medgr2.models.measures import Answer, share, summarise
from medgr2.models.other_scorers import said
from medgr2.models.paired_means import compare_sampled
from medgr2.models.promotion_gate import gain_of
from medgr2.models.reliability import reliability
from medgr2.schemas.cycle_reports import Accuracy
from medgr2.schemas.evaluations import Comparison, Evaluation, OtherScorers, PartAccuracy, Protocol, SliceAccuracy
from medgr2.schemas.reports import DatasetVersion
from medgr2.tasks.evaluate import Condition, answers
from medgr2.tasks.remembered import Remembered

_LISTED = (
    "select item_id, condition, failed from evals where not parsed and model_id = '{model}' "
    "and dataset = '{dataset}' and version = {version} and asked = '{asked}'"
)
Rows = Sequence[Mapping[str, Any]]


def listed(row: Mapping[str, Any]) -> str:
    """Of the exam that the row is from."""
    told = {name: row[name] for name in ("dataset", "version", "asked")}
    return f"medgr2 query {shlex.quote(_LISTED.format(model=row['model_id'], **told))}"


def report(
    lake: Lake,
    model: Mapping[str, Any],
    heldout: DatasetVersion,
    rows: Rows,
    taught: Remembered,
    *,
    run: str,
    first: Rows = (),
) -> Evaluation:
    """`first` are the rows of another model, which this one is compared with."""
    seen = answers(rows, Condition.IMAGE)
    found = summarise(seen)
    shown = [row for row in rows if row["condition"] == Condition.IMAGE]
    return Evaluation(
        **examined(model, rows, on=heldout.ref, digest=heldout.digest, run=run),
        macro=found.macro,
        micro=found.micro,
        sampled=found.sampled,
        calibration=reliability([(r["confidence"], r["correct"]) for r in shown if r["confidence"] is not None]),
        agreement=reliability([(_agreeing(r), r["correct"]) for r in shown if r["sampled"] and r["answer"]]),
        by_modality=_protocol(found.by_modality, taught.modalities),
        by_question_type=_protocol(found.by_question_type, taught.question_types),
        other_scorers=_others(lake, shown),
        against=_comparison(seen, first) if first else None,
    )


def examined(model: Mapping[str, Any], rows: Rows, *, on: str, digest: str, run: str) -> dict[str, Any]:
    """What every report begins with, by the names of `Examined`."""
    shown = [row for row in rows if row["condition"] == Condition.IMAGE]
    return {
        "model": str(model["model_id"]),
        "role": model["role"],
        "method": model["method"],
        "on": on,
        "digest": digest,
        "run": run,
        "n": len(shown),
        "unreadable": sum(row["answer"] is None and row["failed"] is None for row in shown),
        "failed": sum(row["failed"] is not None for row in shown),
        "blind": _control(rows, Condition.BLIND),
        "blank": _control(rows, Condition.BLANK),
        "swapped": _control(rows, Condition.SWAPPED),
        "controls_failed": sum(row["failed"] is not None for row in rows if row["condition"] != Condition.IMAGE),
        "listed": listed(rows[0]),
    }


def _comparison(seen: Sequence[Answer], first: Rows) -> Comparison:
    theirs = answers(first, Condition.IMAGE)
    by_item = {answer.item_id: answer for answer in theirs}
    return Comparison(
        other=str(first[0]["model_id"]),
        greedy=gain_of([(answer, by_item[answer.item_id]) for answer in seen]),
        sampled=compare_sampled(seen, theirs) if seen[0].sampled and theirs[0].sampled else None,
    )


def _agreeing(row: Mapping[str, Any]) -> float:
    return sum(letter == row["answer"] for letter in row["sampled"]) / len(row["sampled"])


def _control(rows: Rows, condition: Condition) -> Accuracy | None:
    given = answers(rows, condition)
    return share(given) if given else None


def _protocol(parts: Mapping[str, PartAccuracy], taught: frozenset[str]) -> Protocol:
    slices = {name: SliceAccuracy(n=one.n, accuracy=one.accuracy, taught=name in taught) for name, one in parts.items()}
    every = [one.accuracy.value for one in slices.values()]
    known = [one.accuracy.value for one in slices.values() if one.taught]
    others = [one.accuracy.value for one in slices.values() if not one.taught]
    return Protocol(
        macro=sum(every) / len(every),
        in_domain=sum(known) / len(known) if known else None,
        cross_domain=sum(others) / len(others) if others else None,
        slices=slices,
    )


def _others(lake: Lake, shown: Rows) -> OtherScorers:
    items = lake.read("items", ["item_id", "options"], {"item_id": [row["item_id"] for row in shown]}).to_pylist()
    options = {item["item_id"]: item["options"] for item in items}
    kit = lmms = 0.0
    for row in shown:
        given, choices = said(row["reply"]), options[row["item_id"]]
        kit += other_scorers.vlmevalkit(given, choices) == row["key"]
        lmms += other_scorers.lmms_eval_credit(given, choices, row["key"])
    return OtherScorers(vlmevalkit=kit / len(shown), lmms_eval=lmms / len(shown))
