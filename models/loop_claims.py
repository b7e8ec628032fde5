"""What the loop has to show on worlds whose truth is known, and whether the numbers show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from medgr2.models.loop_table import Claim, Contrast

CERTAIN, CLEAR = 0.001, 0.05
SMALLEST = 1e-300


class Asked(NamedTuple):
    """One requirement of one pair of arms."""

    asked: str
    arm: str
    against: str
    holds: Callable[[Contrast], bool]
    measured: Callable[[Contrast], str]


def _p(value: float) -> str:
    """Too small for a float it is nought, which no p is."""
    return f"p = {value:.1e}" if value >= SMALLEST else f"p < {SMALLEST:.0e}"


def _greedy(c: Contrast) -> str:
    return f"{100 * c.gain:+.1f} points, {c.won} won, {c.lost} lost, {_p(c.p_value)}"


def _sampled(c: Contrast) -> str:
    if c.sampled is None:
        return "not asked at temperature 1"
    told = c.sampled
    return f"{100 * told.gain:+.1f} points [{100 * told.low:+.1f}, {100 * told.high:+.1f}], {_p(told.p_value)}"


def _both(c: Contrast) -> str:
    return f"greedy {_greedy(c)}; avg {_sampled(c)}"


def _sampled_gain(c: Contrast, least: float, p_value: float) -> bool:
    return c.sampled is not None and c.sampled.gain >= least and c.sampled.p_value < p_value


def _improves(c: Contrast) -> bool:
    return (c.gain > 0 and c.p_value < CLEAR) or _sampled_gain(c, 0.0, CLEAR)


START, TEACHER = "start", "base, which writes and judges"
OF_SEED, SEED_LONG = "SFT(seed)", "SFT(seed), as many steps"
UNFILTERED, RANDOM, FILTERED, ORACLE = "+ unfiltered", "+ random, as many", "+ filtered", "+ oracle filter"
GRPO, CONTROL = "+ filtered, GRPO", "+ filtered, as much compute"

ASKED = (
    Asked(
        "filtered beats the start, which was taught nothing, p < .001",
        FILTERED, START, lambda c: c.gain > 0 and c.p_value < CERTAIN, _greedy,
    ),
    Asked(
        "filtered beats SFT(seed) by 5 points, p < .001",
        FILTERED, OF_SEED, lambda c: c.gain >= 0.05 and c.p_value < CERTAIN, _greedy,
    ),
    Asked(
        "filtered beats SFT(seed) with as many steps, p < .001",
        FILTERED, SEED_LONG, lambda c: c.gain > 0 and c.p_value < CERTAIN, _greedy,
    ),
    Asked(
        "filtered beats unfiltered by 2 points, p < .001",
        FILTERED, UNFILTERED, lambda c: c.gain >= 0.02 and c.p_value < CERTAIN, _greedy,
    ),
    Asked(
        "filtered beats unfiltered by 10 points at temperature 1, p < .001",
        FILTERED, UNFILTERED, lambda c: _sampled_gain(c, 0.10, CERTAIN), _sampled,
    ),
    Asked("filtered is within 1 point of the oracle filter", FILTERED, ORACLE, lambda c: c.gain >= -0.01, _greedy),
    Asked(
        "GRPO is no worse than its equal-compute control, on the mean of the seeds",
        GRPO, CONTROL, lambda c: c.gain >= 0, lambda c: ", ".join(f"{100 * one:+.1f}" for one in c.by_seed),
    ),
    Asked("GRPO improves greedy or avg, p < .05", GRPO, CONTROL, _improves, _both),
    Asked("cycle 3 is above cycle 1", "cycle 3", FILTERED, lambda c: c.gain > 0, _greedy),
)  # fmt: skip

CONTRASTS = (
    (OF_SEED, START),
    (SEED_LONG, OF_SEED),
    (FILTERED, START),
    (FILTERED, TEACHER),
    (FILTERED, OF_SEED),
    (FILTERED, SEED_LONG),
    (FILTERED, RANDOM),
    (FILTERED, UNFILTERED),
    (FILTERED, ORACLE),
    (CONTROL, FILTERED),
    (GRPO, FILTERED),
    (GRPO, CONTROL),
    ("cycle 2", FILTERED),
    ("cycle 3", FILTERED),
)


def claims(contrasts: Sequence[Contrast]) -> list[Claim]:
    """One line for every requirement whose arms were run."""
    by_pair = {(c.arm, c.against): c for c in contrasts}
    found = []
    for one in ASKED:
        contrast = by_pair.get((one.arm, one.against))
        if contrast is not None:
            found.append(Claim(asked=one.asked, measured=one.measured(contrast), met=one.holds(contrast)))
    return found
