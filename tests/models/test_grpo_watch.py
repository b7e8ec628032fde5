from __future__ import annotations

from typing import Any

import pytest

from medgr2.models.grpo_watch import ENDLESS_STEPS, FLAT_STEPS, refuse_fruitless
from medgr2.schemas.errors import DataError


def step(*, cut: float = 0.0, flat: float = 0.5) -> dict[str, Any]:
    return {"reward": 0.3, "completions/clipped_ratio": cut, "frac_reward_zero_std": flat}


GOOD = step()


@pytest.mark.parametrize("finished", [False, True])
def test_practice_that_teaches_goes_on(finished: bool) -> None:
    refuse_fruitless([], finished=finished)
    refuse_fruitless([{"loss": 0.1}], finished=finished)
    refuse_fruitless([step(cut=1.0, flat=1.0), *[GOOD] * 5], finished=finished)
    refuse_fruitless([*[step(flat=1.0)] * 100, step(flat=0.9)], finished=finished)


def test_replies_that_never_end_stop_it_also_late() -> None:
    endless = [step(cut=0.96)] * ENDLESS_STEPS
    refuse_fruitless(endless[:-1], finished=False)
    for before in ([], [GOOD] * 50):
        with pytest.raises(DataError, match="96% of the replies of 10 steps never ended"):
            refuse_fruitless([*before, *endless], finished=False)
    refuse_fruitless([step(cut=0.9)] * 50, finished=True)


def test_a_short_run_is_judged_when_it_has_finished() -> None:
    with pytest.raises(DataError, match="never ended"):
        refuse_fruitless([step(cut=1.0, flat=1.0)] * 2, finished=True)
    with pytest.raises(DataError, match="constant"):
        refuse_fruitless([step(flat=1.0)] * 2, finished=True)


def test_a_constant_reward_stops_it_once_it_has_had_its_chance() -> None:
    refuse_fruitless([step(flat=1.0)] * (FLAT_STEPS - 1), finished=False)
    with pytest.raises(DataError, match="constant"):
        refuse_fruitless([step(flat=1.0)] * FLAT_STEPS, finished=False)
