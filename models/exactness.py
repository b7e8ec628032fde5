"""What makes equal arguments give equal bytes, also after a kill: one thread, kernels that repeat, the same versions.

What would break that is refused before the first step, with what to change.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medgr2.models.care import Sharding, care
from medgr2.schemas.errors import SettingsError

NOTE = "environment.json"
WENT_ON = "went_on"
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "numpy")


@contextlib.contextmanager
def repeatable(device: str, exact: bool) -> Iterator[None]:
    """No telemetry, no bars, and on a CPU one thread: sums split over threads are not the same sums."""
    # TRL calls home on construction unless told otherwise before its hub library is imported.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if device == "cuda" and exact:
        # cuBLAS repeats its sums only with a work space of its own, and reads this when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch
    from transformers.utils import logging

    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "the training asks for a GPU and this process sees none",
            kept="nothing was trained",
            next_command="train with device cpu, or give the stage a GPU",
        )
    memory: Any = torch.utils.deterministic
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    if device == "cpu":
        torch.set_num_threads(1)
    if device == "cpu" or exact:
        torch.use_deterministic_algorithms(True)
        # TRL's fused head takes a large buffer each step: filling it first was two thirds of a small model's step.
        memory.fill_uninitialized_memory = False
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        memory.fill_uninitialized_memory = before[2]


def processes() -> int:
    """That share each step, as accelerate's launcher tells them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def environment(device: str, count: int = 1, sharding: Sharding = "ddp") -> dict[str, str]:
    """What equal bytes rest on, beside the arguments. Another machine whose kernels are the same has the same."""
    import torch

    found = {name: _version(name) for name in LIBRARIES}
    kernels = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return found | {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": f"{platform.machine()} {kernels}",
        "threads": str(torch.get_num_threads()),
        "processes": str(count),
        **({"sharding": sharding} if count > 1 else {}),
    }


def fits(checkpoint: Path, here: Mapping[str, str], *, anew: bool, exact: bool = True) -> bool:
    """Whether the training goes on from the checkpoint; False when it is to begin anew, and an error otherwise. One
    that need not be exact also goes on elsewhere, and its record says so; not with another recipe or another crew."""
    differ = _differ(checkpoint, here)
    if not differ:
        return True
    if anew:
        return False
    if not exact and not differ.keys() & {"settings", "processes", "sharding"}:
        return True
    raise SettingsError(
        "going on from this checkpoint would end in other weights than an undisturbed training: "
        + "; ".join(differ.values()),
        where=str(checkpoint),
        kept="the checkpoint; nothing was trained",
        next_command="give the same command where it was begun, or with MEDGR2_TRAINING__RESUME=anew: "
        "it drops the checkpoint and begins from step 0",
    )


def went_on(checkpoint: Path, here: Mapping[str, str]) -> str:
    """How this training was gone on with elsewhere, so far and now; nothing where it never was."""
    step = checkpoint.name.rpartition("-")[2]
    now = [f"from step {step}: {one}" for one in _differ(checkpoint, here).values()]
    return "; ".join(filter(None, [_told(checkpoint).get(WENT_ON, ""), *now]))


def _differ(checkpoint: Path, here: Mapping[str, str]) -> dict[str, str]:
    """By name, what is not as it was."""
    there = _told(checkpoint)
    names = [name for name in (*here, *(there.keys() - here.keys())) if name != WENT_ON]
    return {
        name: f"{name} was {there.get(name, 'not told')}, is {here.get(name, 'not told')}"
        for name in names
        if there.get(name) != here.get(name)
    }


def _told(checkpoint: Path) -> dict[str, str]:
    try:
        return {str(k): str(v) for k, v in json.loads((checkpoint / NOTE).read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def refuse_strange_launch() -> None:
    """Several processes train together when they were started to, by the one that shares the work out."""
    if processes() > 1 and not care().member:
        raise SettingsError(
            f"a launcher started {processes()} of this process, and each would train the whole model",
            where="WORLD_SIZE",
            kept="nothing was trained",
            next_command=f"start it without a launcher and set MEDGR2_TRAINING__PROCESSES={processes()}: "
            "it starts them itself",
        )


def refuse_inexact(arguments: Any, attention: str, accumulation: int) -> None:
    """Settings with which a run that was cut and resumed would be another one than one that nobody disturbed."""
    for wrong, what, instead in (
        (
            getattr(arguments, "num_iterations", 1) > 1
            or (getattr(arguments, "steps_per_generation", None) or accumulation) > accumulation,
            "several optimizer steps share one generation: a cut between them would generate anew",
            "one generation a step",
        ),
        (getattr(arguments, "use_vllm", False), "a server samples the replies, from a state that is not saved", ""),
        (arguments.save_only_model, "checkpoints without optimizer and random states", "save_only_model off"),
        (arguments.ignore_data_skip, "a resumed run would see the first rows again", "ignore_data_skip off"),
        (arguments.auto_find_batch_size, "the size of a batch would depend on the memory", "a fixed batch"),
        (
            attention == "flash_attention_2",
            "the kernels of FlashAttention do not repeat their sums backwards",
            "attention sdpa",
        ),
    ):
        if wrong:
            raise inexact(what, instead)


def inexact(what: str, instead: str) -> SettingsError:
    either = f"{instead}, or " if instead else ""
    return SettingsError(
        f"this training could not be resumed bit for bit: {what}",
        kept="nothing was trained",
        next_command=f"train with {either}exact off: a resumed run is then a run of its own",
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
