"""The gate of a reward: what gets through, and each reason that stops one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medgr2.models.reward_gate import Judged, decide, harm

CANARIES = [0.05] * 40


def audited(count: int = 240, *, candidate: float = 2.5, present: float = 2.5, slices: int = 4) -> list[Judged]:
    """Calibrated p from scores whose classes lie so far apart."""
    rng = np.random.default_rng(5)
    valid = rng.random(count) < 0.6
    prior = np.log(0.6 / 0.4)

    def p(apart: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        score = rng.normal(np.where(valid, apart, 0.0), 1.0)
        return 1 / (1 + np.exp(-(apart * score - apart**2 / 2 + prior)))

    return [
        Judged(float(c), float(b), bool(v), ("CT", f"type {n % slices}"))
        for n, (c, b, v) in enumerate(zip(p(candidate), p(present), valid, strict=True))
    ]


def test_a_better_reward_is_promoted_with_its_numbers() -> None:
    rows = audited(candidate=4.0, present=2.0)
    report = decide(rows, CANARIES, tau=0.8)
    assert report.promote, report.reasons
    assert report.auroc == pytest.approx(roc_auc_score([r.valid for r in rows], [r.candidate for r in rows]))
    assert report.auroc_before is not None
    assert report.auroc > report.auroc_before
    assert report.canaries_rejected == 1.0
    assert decide(rows[::-1], CANARIES, tau=0.8) == report, "the order of the items does not matter"


def test_one_that_sorts_worse_is_not() -> None:
    report = decide(audited(candidate=1.2, present=3.0), CANARIES, tau=0.8)
    assert not report.promote
    assert any("may be worse" in reason for reason in report.reasons)


def test_one_that_is_sure_of_itself_without_cause_is_not() -> None:
    sure = [Judged(0.999 if r.candidate > 0.5 else 0.4, r.present, r.valid, r.slices) for r in audited(candidate=1.5)]
    report = decide(sure, CANARIES, tau=0.8)
    assert not report.promote
    assert any("ECE" in reason for reason in report.reasons)
    assert any("precision" in reason for reason in report.reasons)


def test_canaries_that_sing_stop_it() -> None:
    rows = audited(candidate=4.0, present=2.0)
    assert any("canaries" in r for r in decide(rows, [0.05] * 30 + [0.95] * 10, tau=0.8).reasons)
    assert decide(rows, [], tau=0.8).reasons == ("no canary was judged",)


def test_a_slice_that_got_worse_stops_it() -> None:
    rows = audited(candidate=4.0, present=3.5)
    spoiled = [
        Judged(1 - r.candidate, r.present, r.valid, r.slices) if "type 2" in r.slices and n % 3 == 0 else r
        for n, r in enumerate(rows)
    ]
    report = decide(spoiled, CANARIES, tau=0.8)
    assert any(reason.startswith("worse on type 2") for reason in report.reasons)
    assert not any("type 1" in reason for reason in report.reasons)


def test_a_reward_that_lets_nothing_through_is_not_promoted() -> None:
    timid = [Judged(r.candidate * 0.7, r.present, r.valid, r.slices) for r in audited(candidate=4.0)]
    assert "nothing that was audited reaches tau" in decide(timid, CANARIES, tau=0.8).reasons


@pytest.mark.parametrize("rows", [audited(40), [r for r in audited(400) if r.valid]])
def test_too_few_audits_of_a_kind_tell_nothing(rows: list[Judged]) -> None:
    report = decide(rows, CANARIES, tau=0.8)
    assert not report.promote
    assert "are needed to tell" in report.reasons[0]


def test_one_in_force_is_withdrawn_for_what_is_clear_alone() -> None:
    rows = audited()
    low, high = [0.05], [0.95]
    assert harm(rows, low * 20 + high * 20, low * 36 + high * 4, tau=0.8).startswith("0.500 of 40 canaries")
    assert harm(rows, low * 37 + high * 3, low * 40, tau=0.8) == "", "three of forty may be luck"
    assert harm(rows, low * 20 + high * 20, high * 20 + low * 20, tau=0.8) == "", "as many slip without it"
    assert harm(rows[:30], low * 20 + high * 20, low * 40, tau=0.8) == "", "too few audits to judge it by"
    worse = audited(candidate=1.0, present=3.0)
    assert "without it: gain <= -" in harm(worse, low * 40, low * 40, tau=0.8)


def test_one_that_changes_nothing_is_not_promoted() -> None:
    rows = [Judged(r.present, r.present, r.valid, r.slices) for r in audited(present=4.0)]
    assert decide(rows, CANARIES, tau=0.8).reasons == ("it changes no p(valid): nothing is gained by asking it",)


def test_a_slice_with_hardly_one_of_a_kind_stops_nothing() -> None:
    """One bad item of forty is last or first, and the AUROC of its slice 1 or 0."""
    rows = audited(candidate=4.0, present=3.5)
    odd = [Judged(0.99 if n == 0 else 0.9, 0.01 if n == 0 else 0.9, n > 0, ("CT", "odd")) for n in range(40)]
    assert not any("odd" in reason for reason in decide([*rows, *odd], CANARIES, tau=0.8).reasons)
    four_more = [Judged(0.99, 0.01, False, ("CT", "odd")) for _ in range(4)]
    assert any("worse on odd" in reason for reason in decide([*rows, *odd, *four_more], CANARIES, tau=0.8).reasons)


def test_one_that_is_not_much_worse_and_no_better_is_not_promoted() -> None:
    """A reward that throws a coin: the calibration hardly listens to it, and it would be asked every night."""
    present = audited(present=4.0)
    nudged = [Judged(r.present + (-1e-3 if r.valid else 1e-3), r.present, r.valid, r.slices) for r in present]
    (reason,) = decide(nudged, CANARIES, tau=0.8).reasons
    assert "is no gain over" in reason
