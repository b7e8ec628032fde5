"""What several processes cannot share is refused before any of them is started, with what to change."""

from __future__ import annotations

from medgr2.models import ranks
from medgr2.models.care import Sharding
from medgr2.models.exactness import inexact
from medgr2.models.training import TrainerSettings
from medgr2.schemas.errors import SettingsError

PROCESSES, SHARDING = "MEDGR2_TRAINING__PROCESSES", "MEDGR2_TRAINING__SHARDING"


def refuse_unshareable(settings: TrainerSettings, count: int, sharding: Sharding, batch: int) -> None:
    """`batch`: rows of a micro-batch, in GRPO replies."""
    if ranks.share(batch, settings.accumulation, count) is None:
        rows = batch * settings.accumulation
        even = [n for n in range(1, rows + 1) if ranks.share(batch, settings.accumulation, n)]
        raise _refused(
            f"{settings.accumulation} micro-batches of {batch} rows a step do not share out among {count} processes",
            f"{PROCESSES}={max(n for n in even if n < count)}, or another batch: it is part of the recipe",
        )
    if settings.device == "cuda":
        _refuse_too_few_gpus(count)
    if sharding == "fsdp":
        if settings.device == "cpu":
            raise _refused(
                "a model is spread in parts over GPUs only, and this training is on the CPU",
                f"{SHARDING}=ddp",
                SHARDING,
            )
        if settings.exact:
            raise inexact("of a model in parts it was never shown that a resumed run is the undisturbed one", "ddp")
    if (sampler := getattr(settings, "sampler", "transformers")) != "transformers":
        raise _refused(
            f"replies by {sampler} were never tried with several processes a step",
            f"the sampler transformers, or {PROCESSES}=1",
        )


def _refuse_too_few_gpus(count: int) -> None:
    import torch

    if count > (there := torch.cuda.device_count()):
        raise _refused(
            f"{count} processes were asked for, each with a GPU, and {there} can be seen from here",
            f"{PROCESSES}={max(1, there)}, or a machine with more",
        )


def _refused(what: str, instead: str, where: str = PROCESSES) -> SettingsError:
    return SettingsError(what, where=where, kept="nothing was trained", next_command=instead)
