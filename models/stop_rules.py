"""When a loop ends by itself: no clear gain, a fallen precision, or a spent budget. Pure functions of its cycles."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medgr2.schemas.cycle_reports import CycleReport
from medgr2.schemas.reports import AuditedShare
from medgr2.schemas.stopping import LoopBudget, Spent, Stop, StopParameters


def why_stop(cycles: Sequence[CycleReport], rule: StopParameters) -> Stop | None:
    """Why no cycle follows the last of these, or None."""
    if not cycles:
        return None
    last = cycles[-1].cycle
    if rule.precision and cycles[-1].fallen:
        return Stop(after=last, ground="precision", reason=cycles[-1].fallen)
    if reason := _no_gain(cycles, rule.patience):
        return Stop(after=last, ground="no gain", reason=reason)
    if rule.budget and (reason := _spent(cycles, rule.budget)):
        return Stop(after=last, ground="budget", reason=reason)
    return None


def fell(now: AuditedShare | None, before: AuditedShare | None) -> str:
    """How the audited precision fell, if it did by more than chance: the 95% interval of the difference (Newcombe's,
    from the two Wilson intervals) lies below zero."""
    if now is None or before is None:
        return ""
    change = now.value - before.value
    most = change + math.hypot(now.high - now.value, before.value - before.low)
    if most >= 0:
        return ""
    return (
        f"audited precision fell from {before.value:.3f} [{before.low:.3f}, {before.high:.3f}] to {now.value:.3f} "
        f"[{now.low:.3f}, {now.high:.3f}]"
    )


def _no_gain(cycles: Sequence[CycleReport], patience: int) -> str:
    """A cycle that had nothing to learn gained nothing."""
    recent = cycles[-patience:] if patience else ()
    if len(recent) < max(patience, 1) or any(_gained(one) for one in recent):
        return ""
    told = ", ".join(_gain_text(one) for one in recent)
    return f"no clear gain in {patience} cycles in a row: {told}"


def _gained(report: CycleReport) -> bool:
    return report.exam is not None and report.exam.gain is not None and report.exam.gain.clear


def _gain_text(report: CycleReport) -> str:
    gain = report.exam.gain if report.exam else None
    return gain.text() if gain else "nothing learned"


def _spent(cycles: Sequence[CycleReport], budget: LoopBudget) -> str:
    total = sum((one.spent for one in cycles), Spent())
    for name, limit in budget.model_dump(exclude_none=True).items():
        used, dearest = getattr(total, name), max(getattr(one.spent, name) for one in cycles)
        if used >= limit or used + dearest > limit:
            return f"{used:g} of {limit:g} {name} are spent, and a cycle has cost up to {dearest:g}"
    return ""
