"""Reliability: whether a model that says .9 is right nine times of ten."""

from __future__ import annotations

from collections.abc import Sequence

from medgr2.models.calibration import expected_calibration_error
from medgr2.schemas.evaluations import Calibrated, ConfidenceBin

BINS = 10


def reliability(told: Sequence[tuple[float, bool]]) -> Calibrated | None:
    """Of confidences and whether the answer was right; None where there are none."""
    if not told:
        return None
    held: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in told:
        held.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, right))
    sure, correct = [c for c, _ in told], [right for _, right in told]
    return Calibrated(
        n=len(told),
        confidence=sum(sure) / len(told),
        accuracy=sum(correct) / len(told),
        ece=expected_calibration_error(sure, correct),
        brier=sum((c - right) ** 2 for c, right in told) / len(told),
        bins=tuple(
            ConfidenceBin(
                low=at / BINS,
                high=(at + 1) / BINS,
                n=len(group),
                confidence=sum(c for c, _ in group) / len(group),
                accuracy=sum(right for _, right in group) / len(group),
            )
            for at, group in sorted(held.items())
        ),
    )
