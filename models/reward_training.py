"""Training a reward model: a vision-language model learns which claims about pictures hold, and which do not.

It is asked in one of two forms. `yes-no` learns the probability of the word Yes, in the words it already has. `head`
is the published recipe: a number read from the last state, fitted to grades by their squared error.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medgr2.models.adapters import Adapters, LoraSettings
from medgr2.models.judging import (
    HIGHEST,
    JUDGE,
    LOWEST,
    Claim,
    Form,
    JudgeReader,
    head_values,
    log_odds,
    score_of,
)
from medgr2.models.prompts import load_prompt
from medgr2.models.reward_model import HEAD, JudgeCard
from medgr2.models.training import (
    TrainerSettings,
    common_arguments,
    rows_dataset,
    schedule,
    train_to_folder,
)
from medgr2.schemas.errors import DataError


@dataclass(frozen=True, slots=True)
class RewardExample:
    """A claim and what it deserves: in [0, 1] where Yes or No is learned, a grade in [-6, 10] where a head is.
    `weight` is its share of the visits."""

    claim: Claim
    target: float
    weight: float = 1.0


class RewardSettings(TrainerSettings):
    form: Form = "yes-no"
    lora: LoraSettings | None = None
    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=16, ge=1, description="Claims a micro-batch.")
    learning_rate: float = Field(default=5e-4, gt=0)
    warmup_steps: int = Field(default=20, ge=0)


PRESETS: dict[Literal["default", "paper"], RewardSettings] = {
    "default": RewardSettings(),
    "paper": RewardSettings(form="head"),
}


def train_reward(base: Path, examples: Sequence[RewardExample], out: Path, settings: RewardSettings) -> dict[str, Any]:
    """Train `base` on the examples into `out`. Equal arguments give equal bytes, also after a kill."""
    _refuse_unfit(examples, settings.form)
    seen = settings.steps * settings.batch * settings.accumulation
    order = schedule([e.weight for e in examples], seen, settings.seed)
    card = JudgeCard(form=settings.form, prompt_name=JUDGE, prompt=load_prompt(JUDGE), architecture=_architecture(base))
    dressing = _Dressing(settings)
    reader, words = _reader(base, card)

    def read(row: int) -> dict[str, Any]:
        return {"claim": examples[row].claim, "target": examples[row].target}

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        targets = [float(row["target"]) for row in rows]
        if settings.form == "head":
            targets = [score_of(grade) for grade in targets]
        return {**reader.inputs([row["claim"] for row in rows]), "targets": torch.tensor(targets)}

    def arguments(scratch: Path) -> Any:
        from transformers import TrainingArguments

        return TrainingArguments(
            **common_arguments(settings, scratch),
            per_device_train_batch_size=settings.batch,
            train_sampling_strategy="sequential",
        )

    def record(history: list[dict[str, Any]]) -> dict[str, Any]:
        losses = [row["loss"] for row in history if "loss" in row]
        return {
            "method": "reward",
            "judge": card.model_dump(mode="json"),
            "examples": len(examples),
            "seen": seen,
            "trained": dressing.trained,
            "first_loss": losses[0],
            "last_loss": sum(losses[-10:]) / len(losses[-10:]),
        }

    def loss(model: Any, inputs: dict[str, Any], targets: Any) -> Any:
        from torch.nn import functional

        plain = dressing.plain(model)
        if settings.form == "head":
            # Of the grades over their range: a 256th of their squared error, which Adam does not see.
            return functional.mse_loss(head_values(plain, plain.reward_head, inputs).float(), targets)
        return functional.binary_cross_entropy_with_logits(log_odds(plain, inputs, words).float(), targets)

    return train_to_folder(
        base,
        out,
        _trainer(loss),
        arguments,
        settings,
        record,
        dress=dressing.dress,
        undress=dressing.undress,
        train_dataset=rows_dataset(order, read),
        data_collator=collate,
    )


class _Dressing:
    """The plain model with what is trained on it, and back."""

    def __init__(self, settings: RewardSettings) -> None:
        self._form = settings.form
        self._adapters = Adapters(settings.lora, settings.seed, whole=["reward_head"] if self._form == "head" else ())

    @property
    def trained(self) -> int:
        return self._adapters.trained

    def dress(self, model: Any) -> Any:
        import torch

        if self._form == "head":
            model.reward_head = torch.nn.Linear(model.config.get_text_config().hidden_size, 1)
            torch.nn.init.zeros_(model.reward_head.weight)
            torch.nn.init.constant_(model.reward_head.bias, 0.5)
        return self._adapters.dress(model)

    def plain(self, model: Any) -> Any:
        return self._adapters.plain(model)

    def undress(self, model: Any, folder: Path) -> Any:
        from safetensors.torch import save_file

        plain = self._adapters.undress(model, folder)
        if self._form == "head":
            save_file({k: v.contiguous() for k, v in plain.reward_head.state_dict().items()}, folder / HEAD)
            del plain.reward_head
        return plain


def _trainer(loss: Callable[[Any, dict[str, Any], Any], Any]) -> type[Any]:
    from transformers import Trainer

    class RewardTrainer(Trainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # The loss below is a mean over the micro-batch; only so does the trainer share it among several.
            self.model_accepts_loss_kwargs = False

        def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
            targets = inputs.pop("targets")
            # Number formats are set on the outermost model, which adapters are, and the loss asks the one inside.
            with self.accelerator.autocast():
                return loss(self.accelerator.unwrap_model(model), inputs, targets)

    return RewardTrainer


def _reader(base: Path, card: JudgeCard) -> tuple[JudgeReader, tuple[int, int]]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    reader = JudgeReader(processor, card.prompt)
    return reader, reader.words() if card.form == "yes-no" else (0, 0)


def _architecture(base: Path) -> str:
    return str(json.loads((base / "config.json").read_text(encoding="utf-8"))["architectures"][0])


def _refuse_unfit(examples: Sequence[RewardExample], form: Form) -> None:
    low, high = (LOWEST, HIGHEST) if form == "head" else (0.0, 1.0)
    targets = [e.target for e in examples if e.weight > 0]
    if wrong := sum(not (math.isfinite(t) and low <= t <= high) for t in targets):
        raise DataError(
            f"{wrong} of {len(targets)} targets are not numbers in [{low:g}, {high:g}], which a {form} judge learns",
            kept="nothing was trained",
            next_command="check what the examples were made of",
        )
    if targets and min(targets) == max(targets):
        raise DataError(
            f"all {len(targets)} examples deserve the same: there is nothing to tell apart",
            kept="nothing was trained",
            next_command="train on good and on bad claims: perturbations, audits",
        )
