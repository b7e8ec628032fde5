"""How a training is watched over: how long it may stand still, where its checkpoints are kept besides, how it goes on,
and how many processes share its steps.

Nothing here is part of a recipe; whoever runs a training says it once. Of what could change its bytes, the processes,
each checkpoint has a note.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from medgr2.infra.checkpoint_vault import CheckpointVault

Sharding = Literal["ddp", "fsdp"]


@dataclass(frozen=True, slots=True)
class Care:
    stall_seconds: float = 1800.0
    """So long a training may go without a step."""
    grace_seconds: float = 25.0
    """So soon after a signal it has saved and left."""
    vault: CheckpointVault | None = None
    store_every: int = 5
    """Every so many checkpoints, one goes to the vault."""
    resume: Literal["exact", "anew"] = "exact"
    """A checkpoint of another environment is refused, or dropped and the training begun anew."""
    processes: int = 1
    """So many share each step."""
    sharding: Sharding = "ddp"
    """What each of several holds: the whole model, or a part of it."""
    member: bool = False
    """This process is one of them, and was started to be one."""
    sampler_url: str = ""
    """Of the vLLM server that samples for GRPO, where one does."""


_current: ContextVar[Care] = ContextVar("care", default=Care())  # noqa: B039  frozen


def care() -> Care:
    return _current.get()


@contextlib.contextmanager
def under(one: Care) -> Iterator[None]:
    token = _current.set(one)
    try:
        yield
    finally:
        _current.reset(token)
