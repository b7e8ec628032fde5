"""The estimate is unbiased and its interval is Wilson's."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from medgr2.models.precision import precision


@pytest.mark.parametrize(("valid", "n"), [(0, 5), (5, 5), (47, 50), (1, 1), (500, 1000)])
def test_with_equal_weights_it_is_the_plain_share(valid: int, n: int) -> None:
    found = precision([(i < valid, 14.66) for i in range(n)])
    known = binomtest(valid, n).proportion_ci(method="wilson")
    assert found is not None
    assert (found.audited, found.valid) == (n, valid)
    assert found.value == pytest.approx(valid / n)
    assert found.effective == pytest.approx(n)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))


def test_a_sample_of_many_weighs_more_than_one_of_few() -> None:
    rows = [(True, 10.0)] * 10 + [(False, 1.0)] * 10  # 100 accepted all valid, and 10 none of them
    found = precision(rows)
    assert found is not None
    assert found.value == pytest.approx(100 / 110)
    assert 10 < found.effective < 20
    alike = precision([(valid, 1.0) for valid, _ in rows])
    assert alike is not None
    assert found.high - found.low > 0
    assert alike.value == 0.5


def test_nothing_audited_estimates_nothing() -> None:
    assert precision([]) is None
