"""The table of the loop's ablation: pooled over worlds, item by item, and what is claimed of it."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from medgr2.models import loop_claims
from medgr2.models.loop_plot import drawn
from medgr2.models.loop_table import Contrast, Sat, Table
from medgr2.models.measures import Answer
from medgr2.models.paired import mcnemar
from medgr2.schemas.errors import DataError
from medgr2.schemas.evaluations import SampledGain


def sat(
    name: str, right: str, *, sampled: int = 2, samples: int = 4, seconds: float = 3.0, valid: float | None = 0.9
) -> Sat:
    """'1' is a right answer; of the four samples so many are right where it is, and none where it is not."""
    shown = {"1": tuple(k < sampled for k in range(samples)), "0": (False,) * samples}
    answers = [
        Answer(f"i{n}", f"p{n}", "CT", "Disease Diagnosis", c == "1", True, shown[c]) for n, c in enumerate(right)
    ]
    return Sat(name, 100, valid, 10, seconds, answers)


@pytest.fixture
def table() -> Table:
    return Table(
        [
            {"a": sat("a", "1111100000"), "b": sat("b", "1110011100", sampled=4)},
            {"a": sat("a", "1111111110", seconds=5.0), "b": sat("b", "1111100000", sampled=4, valid=None)},
        ]
    )


def test_an_arm_is_the_mean_of_its_seeds(table: Table) -> None:
    a, b = table.arms()
    assert (a.name, a.seeds, a.n, a.greedy_by_seed) == ("a", 2, 20, (0.5, 0.9))
    assert a.greedy == pytest.approx(0.7)
    assert a.avg == pytest.approx(0.35)
    assert a.cpu_seconds == 4.0
    assert (a.valid, b.valid, a.blank) == (0.9, 0.9, None)


def test_a_contrast_pairs_the_items_of_each_world(table: Table) -> None:
    found = table.contrast("a", "b")
    assert (found.won, found.lost) == (2 + 4, 3)
    assert found.by_seed == pytest.approx((-0.1, 0.4))
    assert found.gain == pytest.approx(0.15)
    assert found.p_value == pytest.approx(mcnemar(6, 3))
    assert found.sampled is not None
    assert found.sampled.gain == pytest.approx(0.35 - 0.55)
    assert found.sampled.low <= found.sampled.gain <= found.sampled.high


def test_items_that_were_not_drawn_count_for_the_greedy_answers_only() -> None:
    def half(name: str, right: str, sampled: int) -> Sat:
        whole = sat(name, right, sampled=sampled)
        return replace(
            whole, answers=[replace(a, sampled=a.sampled if n < 2 else ()) for n, a in enumerate(whole.answers)]
        )

    table = Table([{"a": half("a", "1011", 2), "b": half("b", "1100", 4)}])
    found = table.contrast("a", "b")
    assert (found.n, found.won, found.lost) == (4, 2, 1)
    assert found.sampled is not None
    assert (found.sampled.n, found.sampled.gain) == (2, pytest.approx((0.5 - 2.0) / 2))
    assert [arm.avg for arm in table.arms()] == [pytest.approx(0.25), pytest.approx(1.0)]


def test_an_arm_that_was_not_sampled_is_compared_by_its_greedy_answers_alone() -> None:
    table = Table([{"a": sat("a", "1110", samples=0), "b": sat("b", "1000")}])
    assert [arm.avg for arm in table.arms()] == [None, 0.125]
    found = table.contrast("a", "b")
    assert (found.gain, found.sampled) == (0.5, None)
    (hot,) = (one for one in loop_claims.ASKED if one.asked.startswith("filtered beats unfiltered by 10"))
    assert "not asked" in hot.measured(found)
    drawing = ElementTree.fromstring(drawn(table.arms(), [found], "medgr2 ablate loop"))
    assert len(list(drawing.iter("{http://www.w3.org/2000/svg}circle"))) == 2 + 4


def test_arms_that_sat_other_items_are_not_compared(table: Table) -> None:
    other = Table([{"a": sat("a", "11"), "b": sat("b", "111")}])
    with pytest.raises((DataError, ValueError)):
        other.contrast("a", "b")


def contrast(
    arm: str, against: str, gain: float = 0.0, p: float = 1.0, avg: float = 0.0, avg_p: float = 1.0
) -> Contrast:
    sampled = SampledGain(n=100, samples=4, gain=avg, low=0, high=0, p_value=avg_p, better=1, worse=1)
    return Contrast(
        arm=arm, against=against, n=100, gain=gain, by_seed=(gain,), won=1, lost=1, p_value=p, sampled=sampled
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (contrast("+ filtered", "SFT(seed)", gain=0.05, p=0.0001), True),
        (contrast("+ filtered", "SFT(seed)", gain=0.049, p=0.0001), False),
        (contrast("+ filtered", "SFT(seed)", gain=0.08, p=0.01), False),
        (contrast("+ filtered", "+ unfiltered", gain=0.02, p=0.0001, avg=0.1, avg_p=0.0001), True),
        (contrast("+ filtered", "+ unfiltered", gain=0.019, p=0.0001, avg=0.09, avg_p=0.0001), False),
        (contrast("+ filtered", "+ oracle filter", gain=-0.009), True),
        (contrast("+ filtered", "+ oracle filter", gain=-0.011), False),
        (contrast("cycle 3", "+ filtered", gain=0.001), True),
        (contrast("cycle 3", "+ filtered", gain=-0.001), False),
    ],
)
def test_a_claim_is_met_by_its_numbers_alone(found: Contrast, met: bool) -> None:
    claims = loop_claims.claims([found])
    assert claims
    assert all(claim.met is met for claim in claims)


def test_grpo_has_to_match_and_to_improve() -> None:
    pair = ("+ filtered, GRPO", "+ filtered, as much compute")
    met = [one.met for one in loop_claims.claims([contrast(*pair, gain=-0.001, avg=0.02, avg_p=0.01)])]
    assert met == [False, True]
    assert [one.met for one in loop_claims.claims([contrast(*pair, gain=0.01, p=0.2)])] == [True, False]
    assert [one.met for one in loop_claims.claims([contrast(*pair, avg=-0.02, avg_p=0.01)])] == [True, False]


def test_every_claim_is_about_arms_that_are_compared() -> None:
    assert {(one.arm, one.against) for one in loop_claims.ASKED} <= set(loop_claims.CONTRASTS)


def test_the_plot_is_a_picture_of_all_arms(table: Table) -> None:
    drawing = ElementTree.fromstring(drawn(table.arms(), [table.contrast("a", "b")], "medgr2 ablate loop <x>"))
    texts = [node.text for node in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a", "b", "medgr2 ablate loop <x>"} <= set(texts)
    assert len(list(drawing.iter("{http://www.w3.org/2000/svg}circle"))) == 2 * (2 + 2 * 2)
