"""The table of the loop's ablation: pooled over worlds, item by item, and what is claimed of it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from medgr2.models import loop_claims
from medgr2.models.loop_plot import drawn
from medgr2.models.loop_table import Contrast, Sat, Table
from medgr2.models.measures import Answer
from medgr2.models.paired import mcnemar
from medgr2.schemas.errors import DataError


def sat(name: str, right: str, *, sampled: int = 2, seconds: float = 3.0, valid: float | None = 0.9) -> Sat:
    """'1' is a right answer; of the four samples so many are right where it is, and none where it is not."""
    shown = {"1": tuple(k < sampled for k in range(4)), "0": (False,) * 4}
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
    assert found.gain_avg == pytest.approx(0.35 - 0.55)
    assert found.avg_low <= found.gain_avg <= found.avg_high


def test_arms_that_sat_other_items_are_not_compared(table: Table) -> None:
    other = Table([{"a": sat("a", "11"), "b": sat("b", "111")}])
    with pytest.raises((DataError, ValueError)):
        other.contrast("a", "b")


def contrast(arm: str, against: str, **more: float) -> Contrast:
    numbers = {"gain": 0.0, "p_value": 1.0, "gain_avg": 0.0, "avg_p": 1.0} | more
    return Contrast(
        arm=arm, against=against, n=100, by_seed=(0.0,), won=1, lost=1, avg_low=0, avg_high=0, avg_by_seed=(0.0,),
        **numbers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (contrast("+ filtered", "SFT(seed)", gain=0.05, p_value=0.0001), True),
        (contrast("+ filtered", "SFT(seed)", gain=0.049, p_value=0.0001), False),
        (contrast("+ filtered", "SFT(seed)", gain=0.08, p_value=0.01), False),
        (contrast("+ filtered", "+ oracle filter", gain=-0.009), True),
        (contrast("+ filtered", "+ oracle filter", gain=-0.011), False),
        (contrast("cycle 3", "+ filtered", gain=0.001), True),
        (contrast("cycle 3", "+ filtered", gain=-0.001), False),
    ],
)
def test_a_claim_is_met_by_its_numbers_alone(found: Contrast, met: bool) -> None:
    (claim,) = loop_claims.claims([found])
    assert claim.met is met


def test_grpo_has_to_match_and_to_improve() -> None:
    pair = ("+ filtered, GRPO", "+ filtered, as much compute")
    met = [one.met for one in loop_claims.claims([contrast(*pair, gain=-0.001, gain_avg=0.02, avg_p=0.01)])]
    assert met == [False, True]
    assert [one.met for one in loop_claims.claims([contrast(*pair, gain=0.01, p_value=0.2)])] == [True, False]
    assert [one.met for one in loop_claims.claims([contrast(*pair, gain_avg=-0.02, avg_p=0.01)])] == [True, False]


def test_every_claim_is_about_arms_that_are_compared() -> None:
    assert {(one.arm, one.against) for one in loop_claims.ASKED} <= set(loop_claims.CONTRASTS)


def test_the_plot_is_a_picture_of_all_arms(table: Table) -> None:
    drawing = ElementTree.fromstring(drawn(table.arms(), [table.contrast("a", "b")], "medgr2 ablate loop <x>"))
    texts = [node.text for node in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a", "b", "medgr2 ablate loop <x>"} <= set(texts)
    assert len(list(drawing.iter("{http://www.w3.org/2000/svg}circle"))) == 2 * (2 + 2 * 2)
