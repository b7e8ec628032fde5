"""Practice that teaches nothing is stopped with the reason: replies that never end, or all worth the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medgr2.schemas.errors import DataError

ENDLESS, ENDLESS_STEPS = 0.95, 10
"""Stopped when in so many steps this share of the replies was cut off."""
FLAT_STEPS = 20
"""Stopped when in the first so many steps no two replies to a prompt were worth a different reward."""


def refuse_fruitless(history: Sequence[dict[str, Any]], *, finished: bool) -> None:
    """By the trainer's log so far. A run shorter than the limits is judged when it has finished."""
    steps = [row for row in history if "reward" in row]
    cut = [float(row["completions/clipped_ratio"]) for row in steps[-ENDLESS_STEPS:]]
    if cut and (finished or len(cut) == ENDLESS_STEPS) and sum(cut) / len(cut) >= ENDLESS:
        raise DataError(
            f"{sum(cut) / len(cut):.0%} of the replies of {len(cut)} steps never ended: they were cut off at the "
            "longest reply allowed, and nothing can be learned from them",
            kept="the model that the practice began from",
            next_command="train with SFT first, or allow longer replies (grpo_longest)",
        )
    flat = [float(row["frac_reward_zero_std"]) for row in steps]
    if flat and (finished or len(flat) >= FLAT_STEPS) and min(flat) >= 1.0:
        raise DataError(
            f"the reward is constant: in {len(flat)} steps no two replies to a prompt were worth a different one, "
            "and nothing was learned",
            kept="the model that the practice began from",
            next_command="practise on harder items (band), at a higher temperature, or with another reward",
        )


def watch() -> Any:
    """The same after every step. A factory, since the class is known only once transformers is imported."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_log(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
            refuse_fruitless(state.log_history, finished=False)

    return Watch()
