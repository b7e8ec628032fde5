"""Waves: a night that wants so many accepted items asks, judges, and asks for more until it has them."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from medgr2.schemas.reports import AppraisalReport, GenerateReport

SMALLEST = 32
HOPE = 0.5
"""Share of the cells that end as accepted items, before anything is known."""
LEAST = 0.05
SPARE = 1.1


class Wave(BaseModel):
    """How many of the night's cells are to be asked, counted from the first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upto: int | None = None
    """None: all of them."""


def first_wave(target: int | None) -> Wave:
    return Wave() if target is None else Wave(upto=max(SMALLEST, math.ceil(target / HOPE)))


def next_wave(wave: Wave, target: int | None, drafts: GenerateReport, judged: AppraisalReport) -> Wave | None:
    """None when the night has what it wants, or cannot get more. A function of counts alone: a night that was killed
    and run again goes through the same waves."""
    if target is None or wave.upto is None or judged.accepted >= target:
        return None
    exhausted = wave.upto >= drafts.possible or drafts.asked < wave.upto
    if exhausted or judged.calibration is None:  # nothing can be accepted before people have looked
        return None
    rate = max(LEAST, judged.accepted / drafts.asked) if drafts.asked else HOPE
    more = math.ceil(SPARE * (target - judged.accepted) / rate)
    return Wave(upto=wave.upto + max(SMALLEST, more))
