"""The paired test at temperature 1: two models, the same items, several sampled answers each. Exact, nothing drawn."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import lgamma, log

import numpy as np

from medgr2.models.measures import RESAMPLES, Answer, percentiles
from medgr2.schemas.errors import DataError
from medgr2.schemas.evaluations import SampledGain


def compare_sampled(mine: Sequence[Answer], theirs: Sequence[Answer], *, seed: int = 0) -> SampledGain:
    """To pool exams that hold the same items, give their items and images names of their own first."""
    pairs = _paired(mine, theirs)
    samples = len(mine[0].sampled)
    gained = [sum(a.sampled) - sum(b.sampled) for a, b in pairs]
    by_image: dict[str, list[int]] = defaultdict(list)
    for (a, _), one in zip(pairs, gained, strict=True):
        by_image[a.image_id].append(one)
    sums = np.array([sum(one) for one in by_image.values()], dtype=float)
    sizes = np.array([len(one) for one in by_image.values()], dtype=float)
    low, high = _interval(sums, sizes * samples, seed)
    return SampledGain(
        n=len(pairs),
        samples=samples,
        gain=float(sums.sum() / (sizes.sum() * samples)),
        low=low,
        high=high,
        p_value=flip_test(int(one) for one in sums),
        better=sum(one > 0 for one in gained),
        worse=sum(one < 0 for one in gained),
    )


def flip_images(pairs: Iterable[tuple[Answer, Answer]]) -> float:
    """Two-sided p of greedy answers, by sign flips of whole images: questions of one image are no independent
    witnesses. With one question an image it is McNemar's exact test."""
    by_image: dict[str, int] = defaultdict(int)
    for a, b in pairs:
        by_image[a.image_id] += int(a.correct) - int(b.correct)
    return flip_test(by_image.values())


def flip_test(differences: Iterable[int]) -> float:
    """Two-sided p of whole-numbered paired differences: how often is the sum as far from nought, or further, when each
    difference may as well have the other sign? Summed up over all the ways there are, not over some that were drawn."""
    sizes = Counter(map(abs, differences := list(differences)))
    spread = np.ones(1)
    for size, count in sorted(sizes.items()):
        if size:
            own = np.zeros(2 * size * count + 1)
            own[:: 2 * size] = _coins(count)
            spread = np.convolve(spread, own)
    far = abs(np.arange(len(spread)) - len(spread) // 2) >= abs(sum(differences))
    return float(min(1.0, spread[far].sum()))


def _coins(count: int) -> np.ndarray:
    """The chances of 0, 1, ... heads among so many coins."""
    heads = [lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) - count * log(2) for k in range(count + 1)]
    return np.exp(np.array(heads))


def _paired(mine: Sequence[Answer], theirs: Sequence[Answer]) -> list[tuple[Answer, Answer]]:
    other = {a.item_id: a for a in theirs}
    numbers = {len(a.sampled) for a in (*mine, *theirs)}
    if {a.item_id for a in mine} != other.keys() or not len(mine) == len(theirs) == len(other):
        raise DataError(
            "the two models did not answer the same held-out items once each",
            next_command="evaluate both on the same held-out version",
        )
    if len(numbers) != 1 or numbers == {0}:
        raise DataError(
            f"sampled answers an item: {', '.join(map(str, sorted(numbers)))}; all need as many, and one at least",
            next_command="evaluate both with the same --samples",
        )
    return [(a, other[a.item_id]) for a in mine]


def _interval(sums: np.ndarray, sizes: np.ndarray, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES):  # one at a time: all at once would be gigabytes for a pooled exam
        drawn = rng.integers(len(sums), size=len(sums))
        means.append(sums[drawn].sum() / sizes[drawn].sum())
    return percentiles(np.array(means))
