"""Whether a candidate may take the champion's place, by the answers of both to the same held-out items."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from medgr2.models.measures import Answer, mean_of
from medgr2.models.paired_means import flip_images
from medgr2.models.slices import slices_of
from medgr2.schemas.cycle_reports import Gain, SliceFall
from medgr2.schemas.errors import DataError


class Rule(BaseModel):
    """When a candidate takes the champion's place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = 0.05
    """Largest p of the paired test at which the candidate counts as better; over all looks at a held-out version, see
    `alpha_ledger`."""
    slice_margin: float = 0.15
    """Non-inferiority: of each modality and question type it has to be shown that it did not fall by more than this."""
    slice_harm: float = 0.05
    """And none may fall by more than this where that is no chance: with many items the stricter of the two."""
    slice_alpha: float = 0.1
    """One-sided level of both."""
    sight: float = 0.05
    """With the picture the candidate must be better than without it by at least this."""


class Decision(BaseModel):
    """promote, or keep the champion; and why."""

    model_config = ConfigDict(frozen=True)

    promote: bool
    reasons: tuple[str, ...]
    gain: Gain | None = None
    slices: tuple[SliceFall, ...] = ()


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
    slices = slices_of(pairs, rule.slice_alpha)
    reasons += fallen(slices, rule)
    good = (f"better: {won}, p = {gain.p_value:.3g}", *_untold(slices))
    return Decision(promote=not reasons, reasons=tuple(reasons) or good, gain=gain, slices=tuple(slices))


def gain_of(pairs: Sequence[tuple[Answer, Answer]], seed: int = 0) -> Gain:
    """Of (candidate, champion). Whole images are resampled: their questions are not independent."""
    wins = sum(1 for a, b in pairs if a.correct and not b.correct)
    losses = sum(1 for a, b in pairs if b.correct and not a.correct)
    gained = [float(a.correct) - float(b.correct) for a, b in pairs]
    mean = mean_of([a for a, _ in pairs], gained, seed)
    return Gain(
        value=(wins - losses) / len(pairs),
        low=mean.low,
        high=mean.high,
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


def fallen(slices: Sequence[SliceFall], rule: Rule) -> list[str]:
    """Slices that are shown to have fallen, and those that are not shown to have not."""
    reasons = []
    for one in slices:
        if one.most is None or one.p_value is None:
            continue
        if one.fall > rule.slice_harm and one.p_value <= rule.slice_alpha:
            reasons.append(f"worse on {one.name}: {one.fall:+.3f} lost over {one.n} items")
        elif one.most > rule.slice_margin:
            reasons.append(
                f"not shown to hold on {one.name}: {one.fall:+.3f} lost over {one.n} items, and a fall of "
                f"{one.most:.3f} is not ruled out (limit {rule.slice_margin:g})"
            )
    return reasons


def _untold(slices: Sequence[SliceFall]) -> list[str]:
    few = [f"{one.name} ({one.n} items)" for one in slices if one.most is None]
    return [f"too few to tell of {', '.join(few)}"] if few else []


def _share(answers: Sequence[Answer]) -> float:
    return sum(a.correct for a in answers) / len(answers) if answers else 0.0
