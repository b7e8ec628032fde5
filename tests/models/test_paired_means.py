from __future__ import annotations

import itertools

import numpy as np
import pytest

from medgr2.models.measures import Answer
from medgr2.models.paired import mcnemar
from medgr2.models.paired_means import compare_sampled, flip_test
from medgr2.schemas.errors import DataError


def drawn(rights: list[int], samples: int = 4, per_image: int = 1) -> list[Answer]:
    return [
        Answer(f"i{n}", f"m{n // per_image}", "CT", "q", False, True, tuple(j < k for j in range(samples)))
        for n, k in enumerate(rights)
    ]


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (7, 2), (2, 7), (30, 12), (400, 300)])
def test_of_right_or_wrong_it_is_mcnemars(wins: int, losses: int) -> None:
    assert flip_test([1] * wins + [-1] * losses + [0] * 50) == pytest.approx(mcnemar(wins, losses), rel=1e-9)


@pytest.mark.parametrize("differences", [[4, -1, 2], [3, 3, -2, 1, 0], [-4, -4, 1, 2, 2, -3]])
def test_it_counts_every_way_to_flip(differences: list[int]) -> None:
    total = abs(sum(differences))
    ways = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in _signs(len(differences))]
    assert flip_test(differences) == pytest.approx(sum(w >= total for w in ways) / len(ways))


def _signs(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((1, -1), repeat=n))


def test_equal_models_seldom_differ() -> None:
    """Of 400 comparisons of one model with itself, at most about a twentieth is called a difference."""
    rng = np.random.default_rng(3)
    called = 0
    for _ in range(400):
        p = rng.beta(2, 1, size=120)
        mine, theirs = rng.binomial(4, p), rng.binomial(4, p)
        called += flip_test(int(one) for one in mine - theirs) <= 0.05
    assert called <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5


def test_a_gain_is_told_with_its_interval() -> None:
    gain = compare_sampled(drawn([4, 3, 2, 4] * 50), drawn([3, 3, 1, 4] * 50))
    assert (gain.n, gain.samples, gain.gain, gain.better, gain.worse) == (200, 4, 0.125, 100, 0)
    assert gain.low < 0.125 < gain.high
    assert gain.low > 0
    assert gain.p_value < 1e-20
    other = compare_sampled(drawn([3, 3, 1, 4] * 50), drawn([4, 3, 2, 4] * 50))
    assert (other.gain, other.p_value) == (-0.125, gain.p_value)


def test_many_questions_of_one_image_are_one_piece_of_evidence() -> None:
    """Ten images, each asked twenty times over, are flipped ten times and not two hundred."""
    gain = compare_sampled(drawn([4] * 200, per_image=20), drawn([3] * 200, per_image=20))
    assert gain.p_value == pytest.approx(2 / 2**10)


def test_other_items_or_other_numbers_of_samples_are_refused() -> None:
    with pytest.raises(DataError, match="same held-out items"):
        compare_sampled(drawn([1, 2]), drawn([1]))
    with pytest.raises(DataError, match="2, 4; all need as many"):
        compare_sampled(drawn([1]), drawn([1], samples=2))
    with pytest.raises(DataError, match="answers an item: 0"):
        compare_sampled(drawn([0], samples=0), drawn([0], samples=0))
