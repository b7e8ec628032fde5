"""What held-out answers say of a model, and whether a candidate may take the champion's place. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from pydantic import BaseModel, ConfigDict

from medgr2.schemas.errors import DataError

RESAMPLES = 2000
SLICE_MINIMUM = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a held-out item. An answer that could not be read is wrong, and stays in every denominator."""

    item_id: str
    image_id: str
    modality: str
    question_type: str
    correct: bool
    parsed: bool


class Share(BaseModel):
    model_config = ConfigDict(frozen=True)

    n: int
    accuracy: float


class Summary(BaseModel):
    """Accuracies of one model on one held-out version."""

    model_config = ConfigDict(frozen=True)

    n: int
    macro: float
    """Mean over the modalities, so that a common one does not drown the others."""
    macro_low: float
    macro_high: float
    micro: float
    micro_low: float
    micro_high: float
    unparsed: float
    blank: float | None
    """Micro accuracy with a grey picture: what can be answered without looking."""
    swapped: float | None
    """Micro accuracy with another patient's picture."""
    by_modality: dict[str, Share]
    by_question_type: dict[str, Share]


class Rule(BaseModel):
    """When a candidate takes the champion's place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = 0.05
    """Largest p of the paired test at which the candidate counts as better."""
    slice_margin: float = 0.05
    """A modality or question type may not fall by more than this ..."""
    slice_alpha: float = 0.1
    """... unless a paired one-sided test says that so large a fall is chance."""
    sight: float = 0.05
    """With the picture the candidate must be better than without it by at least this."""


class Decision(BaseModel):
    """promote, or keep the champion; and why."""

    model_config = ConfigDict(frozen=True)

    promote: bool
    reasons: tuple[str, ...]
    wins: int = 0
    """Items that only the candidate answers right."""
    losses: int = 0
    p_value: float | None = None


def summarise(
    seen: Sequence[Answer], blank: Sequence[Answer] = (), swapped: Sequence[Answer] = (), *, seed: int = 0
) -> Summary:
    if not seen:
        raise DataError("no held-out answer to summarise", next_command="give a held-out version that has items")
    (macro_low, macro_high), (micro_low, micro_high) = _intervals(seen, seed)
    by_modality = _shares((a.modality, a.correct) for a in seen)
    return Summary(
        n=len(seen),
        macro=_mean([s.accuracy for s in by_modality.values()]),
        macro_low=macro_low,
        macro_high=macro_high,
        micro=_mean([a.correct for a in seen]),
        micro_low=micro_low,
        micro_high=micro_high,
        unparsed=_mean([not a.parsed for a in seen]),
        blank=_mean([a.correct for a in blank]) if blank else None,
        swapped=_mean([a.correct for a in swapped]) if swapped else None,
        by_modality=by_modality,
        by_question_type=_shares((a.question_type, a.correct) for a in seen),
    )


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p of the paired test: were the items on which the two differ a fair coin?"""
    return min(1.0, 2 * _tail(min(wins, losses), wins + losses))


def decide(
    candidate: Sequence[Answer],
    champion: Sequence[Answer] | None,
    *,
    blank: Sequence[Answer],
    rule: Rule | None = None,
) -> Decision:
    """`champion` is None when the role has none yet; then only the look at the picture is asked for."""
    rule = rule or Rule()
    reasons: list[str] = []
    sight = _mean([a.correct for a in candidate]) - _mean([a.correct for a in blank])
    if sight < rule.sight:
        reasons.append(f"blind: only {sight:+.3f} better with the picture than with a grey one")
    if champion is None:
        return Decision(promote=not reasons, reasons=tuple(reasons) or ("first of its role",))
    pairs = _paired(candidate, champion)
    wins = sum(1 for a, b in pairs if a.correct and not b.correct)
    losses = sum(1 for a, b in pairs if b.correct and not a.correct)
    p = mcnemar(wins, losses)
    if wins <= losses:
        reasons.append(f"not better: {wins} items won, {losses} lost")
    elif p > rule.alpha:
        reasons.append(f"not clearly better: {wins} items won, {losses} lost, p = {p:.3f}")
    reasons += _fallen(pairs, rule)
    good = (f"better: {wins} items won, {losses} lost, p = {p:.3g}",)
    return Decision(promote=not reasons, reasons=tuple(reasons) or good, wins=wins, losses=losses, p_value=p)


def _paired(candidate: Sequence[Answer], champion: Sequence[Answer]) -> list[tuple[Answer, Answer]]:
    mine, theirs = ({a.item_id: a for a in answers} for answers in (candidate, champion))
    if mine.keys() != theirs.keys() or len(mine) != len(candidate) or len(theirs) != len(champion):
        raise DataError(
            "candidate and champion did not answer the same held-out items once each",
            where=f"{len(mine.keys() - theirs.keys())} only by the candidate, {len(theirs.keys() - mine.keys())} "
            "only by the champion",
            next_command="evaluate both on the same held-out version",
        )
    return [(mine[i], theirs[i]) for i in sorted(mine)]


def _fallen(pairs: Sequence[tuple[Answer, Answer]], rule: Rule) -> list[str]:
    fallen = []
    slices = sorted({a.modality for a, _ in pairs}) + sorted({a.question_type for a, _ in pairs})
    for name in slices:
        inside = [(a, b) for a, b in pairs if name in (a.modality, a.question_type)]
        if len(inside) < SLICE_MINIMUM:
            continue
        wins = sum(1 for a, b in inside if a.correct and not b.correct)
        losses = sum(1 for a, b in inside if b.correct and not a.correct)
        fall = (losses - wins) / len(inside)
        if fall > rule.slice_margin and _tail(wins, wins + losses) <= rule.slice_alpha:
            fallen.append(f"worse on {name}: {fall:+.3f} lost over {len(inside)} items")
    return fallen


def _tail(k: int, n: int) -> float:
    """P(X <= k) of X ~ Binomial(n, 1/2), exactly."""
    return sum(comb(n, i) for i in range(k + 1)) / 2**n


def _shares(rows: Iterable[tuple[str, bool]]) -> dict[str, Share]:
    groups: dict[str, list[bool]] = {}
    for name, correct in rows:
        groups.setdefault(name, []).append(correct)
    return {name: Share(n=len(group), accuracy=_mean(group)) for name, group in sorted(groups.items())}


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0


def _intervals(answers: Sequence[Answer], seed: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """95% percentile intervals of macro and micro. Whole images are resampled: their questions are not independent."""
    images, image = np.unique([a.image_id for a in answers], return_inverse=True)
    modalities, modality = np.unique([a.modality for a in answers], return_inverse=True)
    right = np.zeros((len(images), len(modalities)))
    asked = np.zeros_like(right)
    np.add.at(right, (image, modality), [float(a.correct) for a in answers])
    np.add.at(asked, (image, modality), 1.0)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(images), np.full(len(images), 1 / len(images)), size=RESAMPLES).astype(float)
    r, n = times @ right, times @ asked
    with np.errstate(invalid="ignore"):
        macro = np.nanmean(r / n, axis=1)
    micro = r.sum(axis=1) / n.sum(axis=1)
    return _percentiles(macro), _percentiles(micro)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
