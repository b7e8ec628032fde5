"""Whether a candidate may take the champion's place, by the answers of both to the same held-out items."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from medgr2.models.measures import Answer, mean_of
from medgr2.models.paired import tail
from medgr2.models.paired_means import flip_images
from medgr2.schemas.cycle_reports import Gain
from medgr2.schemas.errors import DataError

SLICE_MINIMUM = 30


class Rule(BaseModel):
    """When a candidate takes the champion's place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = 0.05
    """Largest p of the paired test at which the candidate counts as better; over all looks at a held-out version, see
    `alpha_ledger`."""
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
    gain: Gain | None = None


def decide(
    candidate: Sequence[Answer],
    champion: Sequence[Answer] | None,
    *,
    blank: Sequence[Answer],
    rule: Rule | None = None,
    level: float | None = None,
) -> Decision:
    """`champion` is None when the role has none yet; then only the look at the picture is asked for.
    `level`: what this look may spend of the rule's alpha; all of it, if nothing is said."""
    rule = rule or Rule()
    reasons: list[str] = []
    sight = _share(candidate) - _share(blank)
    if sight < rule.sight:
        reasons.append(f"blind: only {sight:+.3f} better with the picture than with a grey one")
    if champion is None:
        return Decision(promote=not reasons, reasons=tuple(reasons) or ("first of its role",))
    pairs = _paired(candidate, champion)
    gain, most = gain_of(pairs), rule.alpha if level is None else level
    won = f"{gain.wins} items won, {gain.losses} lost"
    if gain.wins <= gain.losses:
        reasons.append(f"not better: {won}")
    elif gain.p_value > most:
        reasons.append(f"not clearly better: {won}, p = {gain.p_value:.3g} > {most:.3g}")
    reasons += _fallen(pairs, rule)
    good = (f"better: {won}, p = {gain.p_value:.3g}",)
    return Decision(promote=not reasons, reasons=tuple(reasons) or good, gain=gain)


def gain_of(pairs: Sequence[tuple[Answer, Answer]], seed: int = 0) -> Gain:
    """Of (candidate, champion). Whole images are resampled: their questions are not independent."""
    wins = sum(1 for a, b in pairs if a.correct and not b.correct)
    losses = sum(1 for a, b in pairs if b.correct and not a.correct)
    gained = [float(a.correct) - float(b.correct) for a, b in pairs]
    _, low, high = mean_of([a for a, _ in pairs], gained, seed)
    return Gain(
        value=(wins - losses) / len(pairs),
        low=low,
        high=high,
        wins=wins,
        losses=losses,
        p_value=flip_images(pairs),
    )


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
        if fall > rule.slice_margin and tail(wins, wins + losses) <= rule.slice_alpha:
            fallen.append(f"worse on {name}: {fall:+.3f} lost over {len(inside)} items")
    return fallen


def _share(answers: Sequence[Answer]) -> float:
    return sum(a.correct for a in answers) / len(answers) if answers else 0.0
