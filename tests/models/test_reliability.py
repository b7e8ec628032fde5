from __future__ import annotations

import numpy as np
import pytest

from medgr2.models.reliability import reliability


def test_nine_of_ten_at_point_nine_is_calibrated() -> None:
    found = reliability([(0.9, n % 10 > 0) for n in range(100)])
    assert found is not None
    assert (found.n, found.ece) == (100, pytest.approx(0.0, abs=1e-12))
    assert found.brier == pytest.approx(0.09)
    assert [(b.low, b.high, b.n, b.accuracy) for b in found.bins] == [(0.9, 1.0, 100, 0.9)]


def test_sure_and_wrong_is_told() -> None:
    found = reliability([(1.0, False)] * 3 + [(0.0, True)])
    assert found is not None
    assert (found.ece, found.brier, found.confidence, found.accuracy) == (1.0, 1.0, 0.75, 0.25)
    assert [b.n for b in found.bins] == [1, 3], "1.0 belongs to the last bin"


def test_bins_add_up_to_the_error() -> None:
    rng = np.random.default_rng(0)
    told = [(float(c), bool(rng.random() < c**2)) for c in rng.random(500)]
    found = reliability(told)
    assert found is not None
    assert sum(b.n for b in found.bins) == 500
    assert found.ece == pytest.approx(sum(b.n * abs(b.confidence - b.accuracy) for b in found.bins) / 500)
    assert 0.1 < found.ece < 0.25  # the mean of c - c squared is a sixth


def test_without_answers_there_is_none() -> None:
    assert reliability([]) is None
