"""Alarms: what a night says of its reward that a person should look at before trusting the next one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
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
    reward: float | None = None
    """Mean of what the trained reward says of them, where one looked."""


def figures(
    run: str, p: Sequence[float], lp: Sequence[float], precision: AuditedShare | None, rm: Sequence[float] = ()
) -> Figures:
    sure = [-math.log(max(-one, 1e-6)) for one in lp]
    return Figures(
        run=run,
        mean_p=fmean(p) if p else None,
        confidence=fmean(sure) if sure else None,
        spread=pstdev(sure) if sure else None,
        precision=precision,
        reward=fmean(rm) if rm else None,
    )


def alarms(
    now: Figures,
    before: Figures | None,
    canaries: int,
    rejected: float | None,
    *,
    tau: float | None = None,
    unread: Collection[str] = (),
) -> tuple[str, ...]:
    """`unread` are the evaluation sets that could not be read whole."""
    found = []
    if unread:
        found.append(f"leak check: {', '.join(sorted(unread))} cannot be read whole, so no draft is accepted")
    if rejected is not None and rejected < CANARIES:
        found.append(f"canaries: only {rejected:.3f} of {canaries} known-bad items were rejected")
    if tau is not None and now.precision is not None and now.precision.high < tau:
        found.append(
            f"precision: {now.precision.value:.3f} [{now.precision.low:.3f}, {now.precision.high:.3f}] of the accepted "
            f"are valid by the audits, and tau promises {tau}"
        )
    if before is None:
        return tuple(found)
    if now.confidence is not None and before.confidence is not None and before.spread:
        moved = (now.confidence - before.confidence) / before.spread
        if abs(moved) > DRIFT:
            found.append(f"drift: the scorer's confidence moved by {moved:+.2f} of its spread since {before.run}")
    if fell := _fell(now.precision, before.precision):
        means = {"p(valid)": (before.mean_p, now.mean_p), "the trained reward": (before.reward, now.reward)}
        found += [
            f"reward against precision: the mean of {name} rose from {was:.3f} to {risen:.3f} while audited "
            f"precision fell {fell} since {before.run}"
            for name, (was, risen) in means.items()
            if was is not None and risen is not None and risen > was + RISE
        ]
    return tuple(found)


def _fell(now: AuditedShare | None, before: AuditedShare | None) -> str:
    """By more than chance: tonight's share lies below the whole interval of the night before."""
    if now is None or before is None or now.value >= before.low:
        return ""
    return f"from {before.value:.3f} to {now.value:.3f}"
