"""How far a slice can have fallen: by known bounds, by the level that is promised, and with questions of one image."""

from __future__ import annotations

import math
from math import comb
from statistics import NormalDist

import numpy as np
import pytest

from medgr2.models.measures import Answer
from medgr2.models.slices import FEWEST, most_fall, slices_of
from medgr2.schemas.cycle_reports import SliceFall

ALPHA, MARGIN = 0.1, 0.15


def pairs(gains: list[int], modality: str = "CT", *, each: int = 1, kind: str = "q") -> list[tuple[Answer, Answer]]:
    """Of (candidate, champion): 1 won, -1 lost, 0 both right."""

    def answer(n: int, correct: bool) -> Answer:
        return Answer(f"{modality}{n}", f"{modality}{n // each}", modality, kind, correct, True)

    return [(answer(n, gain >= 0), answer(n, gain <= 0)) for n, gain in enumerate(gains)]


def named(found: list[SliceFall], name: str) -> SliceFall:
    (one,) = [each for each in found if each.name == name]
    return one


def standard_errors(wins: int, losses: int, n: int, fall: float) -> float:
    """From such a fall, by the likeliest shares that have it: sought on a grid, not solved for."""
    lost = np.linspace(max(fall, 0.0) + 1e-9, (1 + fall) / 2 - 1e-9, 400_001)
    won = lost - fall
    likely = wins * np.log(won) + losses * np.log(lost) + (n - wins - losses) * np.log(1 - won - lost)
    best = float(lost[likely.argmax()])
    return (wins - losses + n * fall) / math.sqrt(n * (2 * best - fall - fall**2))


@pytest.mark.parametrize(("wins", "losses", "n"), [(2, 5, 40), (6, 1, 37), (3, 3, 60), (1, 9, 44)])
def test_the_bound_is_where_a_score_test_stops_ruling_out(wins: int, losses: int, n: int) -> None:
    for alpha in (0.1, 0.025):
        far = standard_errors(wins, losses, n, most_fall(wins, losses, n, alpha))
        assert far == pytest.approx(NormalDist().inv_cdf(1 - alpha), abs=1e-4)


def test_without_a_loss_the_bound_comes_near_nought_with_the_number_of_items() -> None:
    bounds = [most_fall(0, 0, n, ALPHA) for n in (30, 100, 1000)]
    assert bounds == sorted(bounds, reverse=True)
    assert 0.03 < bounds[0] < 0.06
    assert bounds[2] < 0.002
    assert most_fall(0, 40, 40, ALPHA) == pytest.approx(1.0)


@pytest.mark.parametrize("n", [30, 37, 60])
def test_a_slice_that_fell_by_the_margin_is_let_through_no_more_often_than_promised(n: int) -> None:
    """Exactly, over all outcomes, whatever share of the answers differs."""
    held = np.array([[w + k <= n and most_fall(w, k, n, ALPHA) <= MARGIN for k in range(n + 1)] for w in range(n + 1)])
    ways = np.array([[float(comb(n, w) * comb(n - w, k)) if w + k <= n else 0.0 for k in range(n + 1)]
                     for w in range(n + 1)])  # fmt: skip
    w, k = np.arange(n + 1)[:, None], np.arange(n + 1)[None, :]

    def let_through(fall: float, differing: float) -> float:
        won, lost = (differing - fall) / 2, (differing + fall) / 2
        same = np.power(1 - won - lost, np.maximum(n - w - k, 0))
        return float((ways * won**w * lost**k * same)[held].sum())

    assert max(let_through(MARGIN, d / 100) for d in range(15, 80, 5)) < 1.15 * ALPHA
    assert let_through(-0.05, 0.12) > 0.9, "and one that gained is seldom stopped"


def test_modalities_and_question_types_are_told_apart_by_kind_and_name() -> None:
    found = slices_of(pairs([1] * 40, "CT", kind="CT") + pairs([-1] * 10 + [0] * 30, "", kind="CT"), ALPHA)
    assert [(one.name, one.n) for one in found] == [("(not known)", 40), ("CT", 40), ("CT", 80)]
    assert [one.fall for one in found] == [0.25, -1.0, pytest.approx(-30 / 80)]
    assert found[0].p_value == pytest.approx(2**-10)
    assert found[1].p_value == 1.0


def test_small_slices_stand_together_and_where_that_is_too_few_it_is_said() -> None:
    small = [pairs([0] * (FEWEST - 10), name) for name in ("MRI", "OCT")]
    found = slices_of([*pairs([1] * 40), *small[0], *small[1]], ALPHA)
    together = named(found, "2 small modalities together (MRI, OCT)")
    assert (together.n, together.fall) == (40, 0.0)
    assert together.most is not None
    alone = named(slices_of([*pairs([1] * 40), *small[0]], ALPHA), "MRI")
    assert (alone.n, alone.most, alone.p_value) == (20, None, None)
    assert alone.text() == "MRI: fall +0.000, too few to tell, over 20 items"
    one_scan = slices_of(pairs([0] * 40, each=40), ALPHA)
    assert named(one_scan, "CT").most is None, "forty questions of one image are one witness"


def test_questions_of_one_image_widen_the_bound() -> None:
    gains = [0] * 30 + [-1] * 4 + [1] * 6
    apart, scattered = slices_of(pairs(gains), ALPHA)[0], slices_of(pairs(gains, each=2), ALPHA)[0]
    assert apart.fall == scattered.fall
    assert apart.most is not None
    assert scattered.most is not None
    assert apart.most < scattered.most - 0.01
    assert apart.most == most_fall(6, 4, 40, ALPHA)
