"""Calibrate: the calibration that all verdicts so far allow on the signals of one scorer, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from medgr2.models.calibration import FEATURES, Audit, Calibration, fit
from medgr2.schemas.errors import DataError
from medgr2.tasks.review import audits

Signals = Mapping[str, Mapping[str, float | None]]


def calibrate(
    reviews: Iterable[Mapping[str, Any]], signals: Signals, *, scorer: str, reward: str | None
) -> tuple[Calibration | None, list[Audit], str]:
    """With the audits that it rests on. Without one a night publishes nothing."""
    found = usable_audits(reviews, signals)
    try:
        return fit(found, scorer=scorer, reward=reward), found, ""
    except DataError as e:
        return None, found, e.what


def usable_audits(reviews: Iterable[Mapping[str, Any]], signals: Signals) -> list[Audit]:
    return audits(reviews, _whole(signals))


def _whole(signals: Signals) -> Signals:
    """Items with every signal that was measured at all: one whose signal failed says nothing, and must not silence the
    others."""
    known = {signal for signal, _ in FEATURES.values()}
    measured = {name for found in signals.values() for name, value in found.items() if _is_number(value)} & known
    return {i: found for i, found in signals.items() if all(_is_number(found.get(name)) for name in measured)}


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
