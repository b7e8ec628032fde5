from __future__ import annotations

import numpy as np
import pytest

from medgr2.models.precision import wilson
from medgr2.models.stop_rules import fell
from medgr2.schemas.reports import AuditedShare


def share(valid: int, audited: int) -> AuditedShare:
    low, high = wilson(valid / audited, audited)
    return AuditedShare(audited=audited, value=valid / audited, low=low, high=high)


def test_a_fall_is_told_with_both_intervals() -> None:
    assert fell(share(28, 40), share(38, 40)) == (
        "audited precision fell from 0.950 [0.835, 0.986] to 0.700 [0.546, 0.819]"
    )


@pytest.mark.parametrize(
    ("now", "before"),
    [(share(36, 40), share(38, 40)), (share(38, 40), share(28, 40)), (None, share(38, 40)), (share(3, 40), None)],
)
def test_chance_a_rise_and_what_nobody_audited_are_no_fall(
    now: AuditedShare | None, before: AuditedShare | None
) -> None:
    assert fell(now, before) == ""


def test_of_two_equal_nights_few_are_called_a_fall() -> None:
    rng = np.random.default_rng(3)
    nights = rng.binomial(25, 0.9, size=(2000, 2)).tolist()
    assert 0.0 < np.mean([bool(fell(share(now, 25), share(before, 25))) for now, before in nights]) < 0.04
