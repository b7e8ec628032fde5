"""The processes that train one model together, as one of them sees it: its place, its share, and where they meet.

A training by one process is a crew of one: nothing is asked of anybody, and nothing is waited for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from medgr2.models.care import care

LATER_SECONDS = 600
"""A process that waits for another in vain ends so much later than its own watchdog, which can say for what."""


def several() -> bool:
    return care().member


def first() -> bool:
    """Whether this is the process that writes what is written once."""
    return not several() or int(os.environ["RANK"]) == 0


def share(batch: int, accumulation: int, count: int) -> tuple[int, int] | None:
    """Rows a micro-batch, and micro-batches a step, of each of `count` processes, which together see the same rows in
    a step; None where that does not come out even. Micro-batches are shared first: they are there to spare memory."""
    rounds = next(n for n in range(count, 0, -1) if count % n == 0 and accumulation % n == 0)
    return None if batch % (count // rounds) else (batch // (count // rounds), accumulation // rounds)


def arguments(batch: int, accumulation: int) -> dict[str, Any]:
    """This process's part of a step, in the words of the trainer's configuration."""
    count = care().processes if several() else 1
    rows, rounds = share(batch, accumulation, count) or (batch, accumulation)
    mine = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": rounds}
    if count == 1:
        return mine
    return mine | {
        "ddp_timeout": int(care().stall_seconds) + LATER_SECONDS,
        # Without it the sums are put into another order after the first step, and after that of a resumed run.
        "ddp_find_unused_parameters": True,
    }


def told() -> dict[str, Any]:
    """For the record of a training."""
    return {"processes": care().processes, "sharding": care().sharding} if several() else {}


def meet() -> None:
    """All have come to this place."""
    if several():
        from accelerate import PartialState  # type: ignore[import-untyped]

        PartialState().wait_for_everyone()


def agreed(said: bool) -> bool:
    """True for all of them as soon as one says so. All ask at the same place."""
    if not several():
        return said
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce  # type: ignore[import-untyped]

    votes = reduce(torch.tensor(float(said), device=PartialState().device), reduction="sum")
    return bool(votes.item() > 0)


def prepare(model: Any) -> Any:
    """Of a model in parts a process that has ended its replies goes on until all have: each layer is put together by
    all of them. Accelerate does not tell transformers so of the models that it takes apart."""
    if several() and care().sharding == "fsdp":
        for module in model.modules():
            if hasattr(module, "generate"):
                module._is_fsdp_managed_module = True
    return model


def whole_model(trainer: Any, fresh: Callable[[], Any]) -> Any:
    """What was trained, on the first process; of parts that several hold, put together into a fresh model."""
    if not trainer.is_fsdp_enabled:
        return trainer.model
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if not first():
        return None
    model = fresh()
    model.load_state_dict(weights)
    return model
