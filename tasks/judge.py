"""Judge: from gates, signals and the calibration to p(valid) and a verdict for every item, and into the lake."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.models.calibration import Calibration
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import UsageError
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.score import COLUMNS, Measured

NEEDS_NO_IMAGE = 0.85
"""Answered right so often without its picture, an item teaches nobody to look at one."""
JUDGEMENT = ("item_id", "scorer", "reward", "calibration", *COLUMNS, "p_valid", "tau", "verdict", "reasons")


def judge(
    gated: Mapping[str, tuple[str, ...]],
    measured: Measured,
    calibration: Calibration | None,
    *,
    tau: float,
    run: str,
    refused: Collection[str] = (),
) -> list[dict[str, Any]]:
    """A row of `scores` for every gated item. What was not scored, or not calibrated, is never accepted.

    `refused` are items that people called not valid: no p(valid) overrules a person who looked.
    """
    if calibration is not None and (calibration.scorer, calibration.reward) != (measured.scorer, measured.reward):
        raise UsageError(
            "the calibration belongs to another scorer or reward",
            where=f"calibration of {calibration.scorer[:12]} and {str(calibration.reward)[:12]}, "
            f"signals of {measured.scorer[:12]} and {str(measured.reward)[:12]}",
            next_command="calibrate on audits that this scorer has scored",
        )
    now = datetime.now(UTC)
    rows = []
    for item_id, reasons in sorted(gated.items()):
        signals = measured.signals.get(item_id, {})
        p = calibration.p(signals) if calibration is not None and not reasons else None
        if item_id in refused:
            reasons = (*reasons, "refused_by_reviewer")
        elif not all(map(math.isfinite, signals.values())):
            reasons = (*reasons, "signal_is_no_number")  # also one that p(valid) does not look at
        elif signals.get("blind", 0.0) >= NEEDS_NO_IMAGE:
            reasons = (*reasons, "needs_no_image")
        verdict, why = _verdict(reasons, _missing(measured, signals), p, calibration is not None, tau)
        row: dict[str, Any] = {
            "item_id": item_id,
            "scorer": measured.scorer,
            "reward": measured.reward,
            "calibration": calibration.id if calibration is not None else None,
            **{name: _number(signals.get(name)) for name in COLUMNS},
            "p_valid": p,
            "tau": tau,
            "verdict": verdict.value,
            "reasons": list(why),
        }
        row["score_id"] = _content(row)
        rows.append({**row, "cell": ",".join(measured.cells.get(item_id, ())), "run": run, "scored_at": now})
    return rows


def newest(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of rows of `scores` the last of each item, which is what holds."""
    return {row["item_id"]: row for row in sorted(rows, key=lambda row: (row["scored_at"], row["score_id"]))}


def record_judgements(lake: Lake, rows: Iterable[Mapping[str, Any]], run: str) -> int:
    """Append what is new in this run. Judged as before, nothing is added; judged anew, even back to an older verdict,
    a row is added after the older ones, so that the newest row of a run and item always is what holds."""
    judged = list(rows)
    stored = lake.read("scores", where={"run": run, "item_id": sorted(row["item_id"] for row in judged)})
    held = newest(stored.to_pylist())
    fresh = []
    for row in judged:
        before = held.get(row["item_id"])
        if before is not None and _content(before) == _content(row):
            continue
        chained = digest_of([_content(row), run, before["score_id"] if before else ""])
        # Clocks of two machines differ, and one may be set back: the later judgement is the newer row all the same.
        at = max(row["scored_at"], before["scored_at"] + timedelta(microseconds=1)) if before else row["scored_at"]
        fresh.append({**row, "score_id": chained, "scored_at": at})
    return lake.append_new("scores", fresh, key="score_id") if fresh else 0


def _content(row: Mapping[str, Any]) -> str:
    return digest_of({name: row[name] for name in JUDGEMENT})


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _missing(measured: Measured, signals: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"no_{name}" for name in measured.asked if name not in signals)


def _verdict(
    reasons: tuple[str, ...], missing: tuple[str, ...], p: float | None, calibrated: bool, tau: float
) -> tuple[Verdict, tuple[str, ...]]:
    if reasons:
        return Verdict.REJECTED, reasons
    if missing:
        return Verdict.FAILED, missing
    if p is None:
        return Verdict.REJECTED, ("signal_is_no_number" if calibrated else "uncalibrated",)
    return (Verdict.ACCEPTED, ()) if p >= tau else (Verdict.REJECTED, ("below_tau",))
