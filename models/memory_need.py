"""Whether a training can fit at all: its weights, their gradients and the optimizer's two moments, before anything is
loaded. What the rows take comes on top, so a training that passes may still be too large; one that fails surely is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medgr2.infra.memory import available
from medgr2.models.adapters import LoraSettings
from medgr2.models.care import Sharding
from medgr2.models.training import TrainerSettings
from medgr2.schemas.errors import DataError, SettingsError

WEIGHT, GRADIENT, MOMENTS = 4, 4, 8
"""Bytes of each number that is trained: weights are kept in float32 whatever the precision of the products."""
GIB = 1024**3


def least_bytes(base: Path, lora: LoraSettings | None = None, *, reference: bool = False) -> int:
    """A lower bound, by the shapes of the weights. `reference` is a second copy that is not trained."""
    shapes = dict(shapes_of(base))
    count = sum(math.prod(shape) for shape in shapes.values())
    trained = count if lora is None else sum(lora.rank * sum(shape) for shape in _linear(shapes))
    added = trained if lora is not None else 0
    return (count * (2 if reference else 1) + added) * WEIGHT + trained * (GRADIENT + MOMENTS)


def refuse_too_little(
    base: Path,
    settings: TrainerSettings,
    lora: LoraSettings | None = None,
    *,
    reference: bool = False,
    spread: float = 1.0,
    what: str = "the training",
    smaller: str = "lora_rank",
) -> None:
    """`spread`: how much of it one memory has to hold, where several processes share the training."""
    needed, there = int(least_bytes(base, lora, reference=reference) * spread), free_bytes(settings.device)
    if there is not None and needed > there:
        raise SettingsError(
            f"too little memory: {what} needs at least {needed / GIB:.1f} GiB for weights, gradients and "
            f"optimizer, and {there / GIB:.1f} GiB are free ({settings.device})",
            where=str(base),
            kept="nothing was loaded or trained",
            next_command=f"train adapters instead of all weights ({smaller}), choose a smaller base, or use a larger "
            "machine",
        )


def held_bytes(base: Path, device: str) -> int:
    """Of a reward that grades: its weights alone, as exactly as its device has them."""
    return sum(math.prod(shape) for _, shape in shapes_of(base)) * (8 if device == "cpu" else 4)


def spread_of(processes: int, sharding: Sharding, device: str) -> float:
    """Each GPU holds a whole copy or its part; the one memory of a CPU all of them."""
    whole = processes if device == "cpu" else 1
    return whole if sharding == "ddp" else whole / processes


def shapes_of(base: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each weight, from the headers of its files."""
    files = sorted(base.glob("*.safetensors"))
    if not files:
        raise DataError("the model has no safetensors weights", where=str(base), kept="nothing was trained")
    for path in files:
        for name, told in _header(path).items():
            if name != "__metadata__":
                yield name, tuple(told["shape"])


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            # The format allows no longer header: a damaged length must not be read as one.
            if not 0 < length <= 100_000_000:
                raise ValueError
            return dict(json.loads(file.read(length)))
    except ValueError:
        raise DataError("a file of weights is damaged", where=str(path), kept="nothing was trained") from None


def _linear(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Where adapters go, near enough: matrices that are not looked words up in."""
    return (s for name, s in shapes.items() if len(s) == 2 and "embed" not in name and "lm_head" not in name)


def free_bytes(device: str) -> int | None:
    if device == "cpu":
        return available()
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
