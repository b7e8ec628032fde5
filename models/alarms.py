"""Alarms: what a night says of its reward that a person should look at before trusting the next one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev

from pydantic import BaseModel, ConfigDict

from medgr2.schemas.reports import AuditedShare

CANARIES = 0.95
RISE = 0.02
DRIFT = 0.5
"""Of the spread of the night before. Nights of other images differ by less."""


class Figures(BaseModel):
    """A night's judgements in a few numbers."""

    model_config = ConfigDict(frozen=True)

    run: str
    mean_p: float | None
    confidence: float | None
    """Mean of -log(-lp) over the drafts that passed the gates."""
    spread: float | None
    precision: AuditedShare | None


def figures(run: str, p: Sequence[float], lp: Sequence[float], precision: AuditedShare | None) -> Figures:
    sure = [-math.log(max(-one, 1e-6)) for one in lp]
    return Figures(
        run=run,
        mean_p=fmean(p) if p else None,
        confidence=fmean(sure) if sure else None,
        spread=pstdev(sure) if sure else None,
        precision=precision,
    )


def alarms(now: Figures, before: Figures | None, canaries: int, rejected: float | None) -> tuple[str, ...]:
    found = []
    if rejected is not None and rejected < CANARIES:
        found.append(f"canaries: only {rejected:.3f} of {canaries} known-bad items were rejected")
    if before is None:
        return tuple(found)
    if now.confidence is not None and before.confidence is not None and before.spread:
        moved = (now.confidence - before.confidence) / before.spread
        if abs(moved) > DRIFT:
            found.append(f"drift: the scorer's confidence moved by {moved:+.2f} of its spread since {before.run}")
    if _rose(now, before) and _fell(now, before):
        assert now.precision is not None and before.precision is not None  # noqa: S101, PT018  _fell asked
        found.append(
            f"reward against precision: mean p(valid) rose from {before.mean_p:.3f} to {now.mean_p:.3f} while audited "
            f"precision fell from {before.precision.value:.3f} to {now.precision.value:.3f} since {before.run}"
        )
    return tuple(found)


def _rose(now: Figures, before: Figures) -> bool:
    return now.mean_p is not None and before.mean_p is not None and now.mean_p > before.mean_p + RISE


def _fell(now: Figures, before: Figures) -> bool:
    """By more than chance: tonight's share lies below the whole interval of the night before."""
    return now.precision is not None and before.precision is not None and now.precision.value < before.precision.low
