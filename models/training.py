"""What every training shares: the settings, the order in which rows are seen, one careful run, one clean folder."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from medgr2.models import ranks
from medgr2.models.care import Care, care
from medgr2.models.checkpoints import durable, latest_checkpoint, rename_whole, step_of
from medgr2.models.exactness import (
    NOTE,
    WENT_ON,
    environment,
    refuse_inexact,
    refuse_strange_launch,
    repeatable,
    went_on,
)
from medgr2.models.resuming import attendant, begin_from, keeper
from medgr2.models.watch import Watch, waiting_for
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import DataError, NightInterruptedError

RECORD = "training.json"
NO_RECIPE = {"checkpoint_every"}
"""Settings that do not change what comes out; they may be others when a training goes on."""

log = logging.getLogger(__name__)


class TrainerSettings(BaseModel):
    """All but what `NO_RECIPE` names can change the weights, and is part of the recipe of a training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    accumulation: int = Field(default=1, ge=1, description="Micro-batches a step, for models that need the memory.")
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    device: Literal["cpu", "cuda"] = "cpu"
    attention: Literal["default", "eager", "sdpa", "flash_attention_2"] = Field(
        default="default", description="Kernels of attention; default is the model's own choice."
    )
    exact: bool = Field(
        default=True, description="Refuse whatever would make a resumed run another one than an undisturbed run."
    )
    checkpoint_every: int = Field(default=100, ge=1, description="Steps between checkpoints.")
    seed: int = Field(default=0, ge=0)


def schedule(weights: Sequence[float], count: int, seed: int) -> list[int]:
    """Which row is seen when: row i is visited in proportion to its weight, evenly over the run.

    Visit k of row i falls at a random moment of its k-th turn, (k + u) / weight: equal weights give a fresh random
    order every epoch, and unequal ones keep their shares from the first batches on.
    """
    w = np.asarray(weights, dtype=np.float64)
    if len(w) == 0:
        raise DataError("nothing to train on: no row was given", next_command="publish a version with items first")
    if not (np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0):
        raise DataError("weights of training rows must be finite, not negative and not all zero")
    rng = np.random.default_rng(seed)
    share = w / w.sum()
    rows = np.repeat(np.arange(len(w)), np.where(w > 0, np.ceil(count * share).astype(int) + 1, 0))
    first = np.r_[True, rows[1:] != rows[:-1]]
    turn = np.arange(len(rows)) - np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
    moment = (turn + rng.random(len(rows))) / share[rows]
    return [int(row) for row in rows[np.argsort(moment, kind="stable")][:count]]


def rows_dataset(order: Sequence[int], read: Callable[[int], dict[str, Any]]) -> Any:
    """A dataset of row numbers only: texts and pictures are read when their batch is made."""
    from datasets import Dataset

    dataset = Dataset.from_dict({"row": list(order)})

    def transform(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        with waiting_for("the rows of the next batch, with their pictures"):
            rows = [read(row) for row in batch["row"]]
        return {name: [row[name] for row in rows] for name in rows[0]}

    dataset.set_transform(transform)
    return dataset


def plain_text(base: Path) -> Callable[[str], str]:
    """Control tokens that somebody typed into a report or a question stay text, here as in the engine."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    marks = sorted({*processor.tokenizer.all_special_tokens, str(processor.image_token)})

    def plain(text: str) -> str:
        for mark in marks:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text

    return plain


def read_image(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")


def common_arguments(settings: TrainerSettings, scratch: Path) -> dict[str, Any]:
    return {
        "output_dir": str(scratch),
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": settings.warmup_steps,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_accumulation_steps": settings.accumulation,
        "activation_checkpointing": settings.gradient_checkpointing,
        "bf16": settings.precision == "bfloat16",
        "use_cpu": settings.device == "cpu",
        "seed": settings.seed,
        "save_strategy": "steps",
        "save_steps": settings.checkpoint_every,
        # Every step is logged: a longer window would be cut by a kill, and the record would differ.
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": settings.device == "cuda",
    }


def train_to_folder(
    base: Path,
    out: Path,
    trainer_class: type[Any],
    arguments: Callable[[Path], Any],
    settings: TrainerSettings,
    record: Callable[[list[dict[str, Any]]], dict[str, Any]],
    *,
    dress: Callable[[Any], Any] = lambda model: model,
    undress: Callable[[Any, Path], Any] = lambda model, _: model,
    **trainer_options: Any,
) -> dict[str, Any]:
    """Train `base` into the folder `out`, which appears whole or not at all; the same call again finishes the work.

    What is trained is what `dress` makes of the model: adapters, a head. `undress` gives the plain model back, and
    writes what is not of it into the folder. Returns the record that is also saved beside the weights. It holds
    nothing that two equal runs could differ in.
    """
    if (out / RECORD).is_file():
        shutil.rmtree(out.with_name(out.name + ".work"), ignore_errors=True)
        return dict(json.loads((out / RECORD).read_text(encoding="utf-8")))
    how = care()
    watch = Watch(how.stall_seconds, how.grace_seconds)

    def job() -> dict[str, Any]:
        with repeatable(settings.device, settings.exact):
            return _train(
                base, out, trainer_class, arguments, settings, record, dress, undress, how, watch, trainer_options
            )

    return watch.run(job)


def _train(
    base: Path,
    out: Path,
    trainer_class: type[Any],
    arguments: Callable[[Path], Any],
    settings: TrainerSettings,
    record: Callable[[list[dict[str, Any]]], dict[str, Any]],
    dress: Callable[[Any], Any],
    undress: Callable[[Any, Path], Any],
    how: Care,
    watch: Watch,
    trainer_options: dict[str, Any],
) -> dict[str, Any]:
    from transformers import AutoProcessor
    from transformers.trainer_callback import PrinterCallback

    scratch = out.with_name(out.name + ".work")
    scratch.mkdir(parents=True, exist_ok=True)
    asked = arguments(scratch)
    refuse_strange_launch()
    if settings.exact:
        refuse_inexact(asked, settings.attention, settings.accumulation)
    here = notes(settings, how if ranks.several() else None)
    resume = latest_checkpoint(scratch) if ranks.several() else begin_from(scratch, here, how, exact=settings.exact)
    if moved := went_on(resume, here) if resume is not None else "":
        log.warning("the training goes on, but not as it was begun: %s", moved)
        here |= {WENT_ON: moved}
    processor = AutoProcessor.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    kernels = {} if settings.attention == "default" else {"attn_implementation": settings.attention}
    model = _opened(base, kernels)
    trainer = durable(trainer_class, {NOTE: here}, keeper(how, watch, settings.checkpoint_every))(
        model=ranks.prepare(dress(model)), args=asked, processing_class=processor, **trainer_options
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(attendant(watch))
    if resume is not None:
        watch.saved = step_of(resume)
    watch.beat()
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    watch.beat()
    if trainer.state.global_step < settings.steps:
        raise NightInterruptedError(
            f"the training was asked to stop, and did after step {trainer.state.global_step} of {settings.steps}",
            where=str(scratch),
            kept=f"the checkpoint of step {watch.saved}",
            next_command="give the same command again: it goes on from there",
        )
    history = list(trainer.state.log_history)
    whole = ranks.whole_model(trainer, lambda: dress(_opened(base, {})))
    if ranks.first():
        _refuse_broken(history, whole, scratch)
    told = settings.model_dump(mode="json", exclude=NO_RECIPE)
    result = {"settings": told, **record(history), **ranks.told(), **({WENT_ON: moved} if moved else {})}
    if ranks.first():
        _save(lambda writing: undress(whole, writing), base, result, scratch / "final", out)
        shutil.rmtree(scratch)
    ranks.meet()
    return result


def notes(settings: TrainerSettings, crew: Care | None) -> dict[str, str]:
    """What each checkpoint says of where it was made. `crew` is how several processes share the training."""
    here = environment(settings.device, crew.processes, crew.sharding) if crew else environment(settings.device)
    return here | {"settings": _recipe(settings)}


def _recipe(settings: TrainerSettings) -> str:
    return digest_of(settings.model_dump(mode="json", exclude=NO_RECIPE))[:16]


def _opened(base: Path, kernels: Mapping[str, str]) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(
        base, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="float32", **kernels
    )


def _refuse_broken(history: list[dict[str, Any]], model: Any, scratch: Path) -> None:
    import torch

    logged = [row[name] for row in history for name in ("loss", "reward") if row.get(name) is not None]
    if not all(np.isfinite(logged)) or not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise DataError(
            "training diverged: the loss, the reward or a weight is not a finite number",
            kept=f"checkpoints in {scratch}; no model was saved",
            next_command="lower the learning rate and train again: it is a new recipe",
        )


def _save(plain: Callable[[Path], Any], base: Path, record: dict[str, Any], writing: Path, out: Path) -> None:
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir()
    plain(writing).save_pretrained(writing)
    for path in sorted(base.iterdir()):
        # All but the weights is the base's, byte for byte: saved again, the tokenizer would keep the trainer's padding
        # and the configuration its switched-off cache.
        if path.suffix in {".json", ".jinja", ".txt", ".model"} and not _is_of_weights(path.name):
            shutil.copyfile(path, writing / path.name)
    (writing / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
    rename_whole(writing, out)


def _is_of_weights(name: str) -> bool:
    return name == RECORD or name.endswith(".index.json")
