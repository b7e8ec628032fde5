"""Which items people see: the strata, what happens when one is short, and that the random one is random."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from medgr2.models.precision import precision
from medgr2.tasks.review_sample import Stratum, draw


def scored(n: int, p: float | None, lp: float | None = -1.0, tau: float = 0.8) -> dict[str, Any]:
    verdict = "accepted" if p is not None and p >= tau else "rejected"
    return {"item_id": f"{n:064x}", "p_valid": p, "lp": lp, "tau": tau, "verdict": verdict}


CALIBRATED = [scored(n, n / 400) for n in range(400)]
P = {row["item_id"]: row["p_valid"] for row in CALIBRATED}


def test_half_near_tau_a_quarter_random_accepted_a_quarter_from_the_top() -> None:
    sample = draw(CALIBRATED, 40, seed=1)
    by = {s: [P[one.item_id] for one in sample.asked if one.stratum is s] for s in Stratum}
    assert sample.strata == {"near-tau": 20, "random": 10, "top": 10}
    assert sample.notes == ()
    assert len({one.item_id for one in sample.asked}) == 40
    assert all(p >= 0.8 for p in by[Stratum.RANDOM])
    assert {one.weight for one in sample.asked} == {None, 8.0}, "80 are accepted, 10 of them were drawn"
    others = sorted(set(P.values()) - set(by[Stratum.RANDOM]), key=lambda p: (abs(p - 0.8), p))
    assert {round(p, 6) for p in by[Stratum.NEAR_TAU]} <= {round(p, 6) for p in others[:21]}  # two are equally near
    assert sorted(by[Stratum.TOP]) == sorted(set(P.values()) - set(by[Stratum.RANDOM]))[-10:]


@pytest.mark.parametrize(
    ("n", "strata"),
    [
        (200, {"near-tau": 100, "random": 50, "top": 50}),
        (7, {"near-tau": 3, "random": 3, "top": 1}),
        (1, {"random": 1}),
    ],
)
def test_the_sizes_add_up(n: int, strata: dict[str, int]) -> None:
    assert draw([scored(i, i / 4000) for i in range(4000)], n, seed=1).strata == strata


def test_the_same_state_draws_the_same_whatever_its_order() -> None:
    assert draw(CALIBRATED[::-1], 40, seed=1) == draw(CALIBRATED, 40, seed=1)
    assert draw(CALIBRATED, 40, seed=2) != draw(CALIBRATED, 40, seed=1)


def test_who_stops_half_way_has_judged_a_bit_of_each() -> None:
    half = draw(CALIBRATED, 80, seed=1).asked[:40]
    counts = {s: sum(one.stratum is s for one in half) for s in (Stratum.RANDOM, Stratum.NEAR_TAU, Stratum.TOP)}
    assert min(counts.values()) >= 4


def test_a_short_stratum_is_told_and_made_up_near_tau() -> None:
    rows = [scored(n, 0.65 + n / 1000) for n in range(100)] + [scored(500 + n, 0.9) for n in range(6)]
    sample = draw(rows, 20, seed=1)
    assert sample.strata == {"near-tau": 14, "random": 5, "top": 1}
    assert sample.notes == ("top 1 of 5: only 6 drafts that nobody reviewed are accepted; 4 more near tau instead",)
    nothing = draw(rows[:100], 20, seed=1)
    assert nothing.strata == {"near-tau": 20}
    assert "random 0 of 5 and top 0 of 5: only 0 drafts" in nothing.notes[0]
    few = draw(rows[97:], 20, seed=1)
    assert sum(few.strata.values()) == 9
    assert few.notes[-1] == "only 9 drafts are left to ask about"
    assert draw([], 5, seed=1).asked == ()


def test_reviewed_ones_are_never_asked_about_again() -> None:
    done = {one.item_id for one in draw(CALIBRATED, 100, seed=1).asked}
    assert not done & {one.item_id for one in draw(CALIBRATED, 100, seed=1, reviewed=done).asked}


def test_before_a_calibration_the_whole_range_is_seen() -> None:
    rows = [scored(n, None, lp=-n / 10) for n in range(100)] + [scored(500, None, lp=None)]
    sample = draw(rows, 10, seed=1)
    assert sample.strata == {"spread": 10}
    assert "no calibration yet" in sample.notes[0]
    assert {one.weight for one in sample.asked} == {None}
    lps = sorted(next(r["lp"] for r in rows if r["item_id"] == one.item_id) for one in sample.asked)
    assert lps[0] < -9
    assert lps[-1] > -1
    assert all(0.5 < b - a < 1.5 for a, b in pairwise(lps))


def test_an_accepted_item_is_accepted_by_its_verdict() -> None:
    refused = [row | {"verdict": "rejected"} for row in CALIBRATED]
    assert set(draw(refused, 40, seed=1).strata) == {"near-tau"}


def test_the_random_stratum_estimates_the_precision_without_bias() -> None:
    """Valid are 70% of the accepted, and all of the top: any sample that leans to the top says more."""
    accepted = [scored(n, 0.8 + n / 10000) for n in range(1000)]
    valid = {row["item_id"]: row["p_valid"] >= 0.83 for row in accepted}
    found = []
    for seed in range(60):
        asked = draw(accepted, 100, seed=seed).asked
        one = precision((valid[a.item_id], a.weight) for a in asked if a.weight is not None)
        assert one is not None
        found.append(one)
    assert sum(one.value for one in found) / 60 == pytest.approx(0.7, abs=0.03)  # four standard errors
    assert sum(one.low <= 0.7 <= one.high for one in found) >= 51  # 95% of 60 are 57


def test_a_later_draw_does_not_prefer_what_came_in_since() -> None:
    """Under one fixed order of lots the old items that were passed over once would be passed over again."""
    old, new = CALIBRATED[320:], [scored(1000 + n, 0.9) for n in range(80)]
    taken = 0
    for seed in range(40):
        reviewed = {one.item_id for one in draw(old, 40, seed=seed).asked if one.stratum is Stratum.RANDOM}
        later = draw(old + new, 40, seed=seed, reviewed=reviewed).asked
        taken += sum(int(one.item_id, 16) >= 1000 for one in later if one.stratum is Stratum.RANDOM)
    assert taken / 400 == pytest.approx(80 / 150, abs=0.1)
