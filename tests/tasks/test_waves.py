"""How much a night with a target asks for, and when it stops."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from medgr2.schemas.reports import AppraisalReport, GenerateReport, Plan
from medgr2.tasks.waves import SMALLEST, Wave, first_wave, next_wave


def drafts(asked: int, possible: int) -> GenerateReport:
    plan = Plan(stage="generate", recipe="r", found=asked, new=asked, reused=0, retried=0)
    return GenerateReport(
        plan=plan, accepted=asked, rejected=0, failed=0, reasons={}, seconds=0, asked=asked, possible=possible
    )


def judged(accepted: int, calibration: str | None = "c") -> AppraisalReport:
    return AppraisalReport(
        drafts=accepted, accepted=accepted, rejected=0, failed=0, reasons={}, calibration=calibration,
        uncalibrated_because="" if calibration else "no audits", audits=0, auroc=0.9, ece=0.0,
    )  # fmt: skip


def test_without_a_target_everything_is_asked_at_once() -> None:
    assert first_wave(None) == Wave(upto=None)
    assert next_wave(Wave(), None, drafts(10, 10), judged(0)) is None


def test_it_stops_with_enough_or_when_nothing_is_left() -> None:
    wave = first_wave(100)
    assert wave == Wave(upto=200)
    assert next_wave(wave, 100, drafts(200, 5000), judged(100)) is None
    assert next_wave(wave, 100, drafts(150, 150), judged(60)) is None, "every cell is asked"
    assert next_wave(wave, 100, drafts(180, 5000), judged(60)) is None, "the budget is spent"


def test_before_people_have_looked_one_wave_is_enough() -> None:
    assert next_wave(first_wave(100), 100, drafts(200, 5000), judged(0, None)) is None


def test_a_small_target_still_asks_a_whole_batch() -> None:
    assert first_wave(1) == Wave(upto=SMALLEST)


@given(st.integers(1, 500), st.integers(1, 4000), st.floats(0, 1))
def test_it_ends_and_never_asks_in_vain(target: int, possible: int, rate: float) -> None:
    wave: Wave | None = first_wave(target)
    seen = 0
    for _ in range(possible + 2):
        assert wave is not None
        assert wave.upto is not None
        assert wave.upto > seen, "a wave asks for more than the one before"
        seen = wave.upto
        asked = min(seen, possible)
        accepted = int(asked * rate)
        wave = next_wave(wave, target, drafts(asked, possible), judged(accepted))
        if wave is None:
            assert accepted >= target or asked == possible
            return
    raise AssertionError("no end")
