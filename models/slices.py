"""Slices: how far a modality or a question type can have fallen, by the paired answers to its items.

The bound is that of Tango's score test for paired shares, which keeps its level with forty items; where an image has
several questions its variance is made as much larger as whole images vary more than questions would.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist

from medgr2.models.measures import Answer
from medgr2.models.paired_means import flip_images
from medgr2.schemas.cycle_reports import SliceFall

FEWEST, FEWEST_IMAGES = 30, 20
"""Items, and images, below which a slice is too small to tell of by itself."""
Pairs = Sequence[tuple[Answer, Answer]]


def slices_of(pairs: Pairs, alpha: float) -> list[SliceFall]:
    """Of (candidate, champion). Those that are too small stand together, those of each kind."""
    return [
        *_one_kind(pairs, alpha, "modalities", lambda answer: answer.modality or "(not known)"),
        *_one_kind(pairs, alpha, "question types", lambda answer: answer.question_type or "(not known)"),
    ]


def _one_kind(pairs: Pairs, alpha: float, kind: str, name: Callable[[Answer], str]) -> list[SliceFall]:
    groups: dict[str, list[tuple[Answer, Answer]]] = defaultdict(list)
    for pair in pairs:
        groups[name(pair[0])].append(pair)
    large = {one: group for one, group in sorted(groups.items()) if _tells(group)}
    small = {one: group for one, group in sorted(groups.items()) if one not in large}
    found = [_fall(one, group, alpha) for one, group in large.items()]
    if len(small) == 1:
        found += [_fall(one, group, alpha) for one, group in small.items()]
    elif small:
        together = [pair for group in small.values() for pair in group]
        found.append(_fall(f"{len(small)} small {kind} together ({', '.join(small)})", together, alpha))
    return found


def _tells(pairs: Pairs) -> bool:
    return len(pairs) >= FEWEST and len({a.image_id for a, _ in pairs}) >= FEWEST_IMAGES


def _fall(name: str, pairs: Pairs, alpha: float) -> SliceFall:
    wins = sum(a.correct > b.correct for a, b in pairs)
    losses = sum(b.correct > a.correct for a, b in pairs)
    fall, tells = (losses - wins) / len(pairs), _tells(pairs)
    return SliceFall(
        name=name,
        n=len(pairs),
        fall=fall,
        most=most_fall(wins, losses, len(pairs), alpha, spread=_spread(pairs)) if tells else None,
        # One-sided: the two-sided p is twice that, its null distribution being symmetric.
        p_value=(flip_images(pairs) / 2 if fall > 0 else 1.0) if tells else None,
    )


def most_fall(wins: int, losses: int, n: int, alpha: float, *, spread: float = 1.0) -> float:
    """The largest fall that a one-sided score test at alpha does not rule out."""
    z, low, high = NormalDist().inv_cdf(1 - alpha), (losses - wins) / n, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(wins, losses, n, middle) < z * sqrt(spread) else (low, middle)
    return high


def _score(wins: int, losses: int, n: int, fall: float) -> float:
    """Tango 1998: how far the pairs are from such a fall, in standard errors as they would be if it were true."""
    b = (2 * n - wins + losses) * -fall - wins - losses
    c = losses * fall * (1 + fall)
    lost = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * lost - fall * (1 + fall))
    return (wins - losses + n * fall) / sqrt(variance) if variance > 0 else float("inf")


def _spread(pairs: Pairs) -> float:
    """By how much whole images vary more than their questions would alone; 1 where they do not."""
    gained = [int(a.correct) - int(b.correct) for a, b in pairs]
    mean, by_image = sum(gained) / len(gained), defaultdict[str, float](float)
    for (a, _), one in zip(pairs, gained, strict=True):
        by_image[a.image_id] += one - mean
    alone = sum((one - mean) ** 2 for one in gained)
    return max(1.0, sum(one * one for one in by_image.values()) / alone) if alone else 1.0
