"""Supervised fine-tuning with TRL on a vision-language model: the loss is on the reply only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from medgr2.models import crew, ranks
from medgr2.models.adapters import Adapters, LoraSettings
from medgr2.models.memory_need import refuse_too_little
from medgr2.models.ready_rows import ReadyRows
from medgr2.models.reply_head import reply_alone
from medgr2.models.row_budget import Row, RowBudget
from medgr2.models.training import (
    TrainerSettings,
    common_arguments,
    plain_text,
    read_image,
    rows_dataset,
    schedule,
    train_to_folder,
)


@dataclass(frozen=True, slots=True)
class Example:
    """One picture, what is asked about it, and the reply to learn. `weight` is its share of the visits."""

    image: Path
    user: str
    assistant: str
    weight: float = 1.0
    item: str = ""
    """By which it is named where it is left out."""


class SftSettings(TrainerSettings):
    steps: int = Field(default=150, ge=1)
    batch: int = Field(default=16, ge=1, description="Examples a micro-batch.")
    learning_rate: float = Field(default=3e-4, gt=0)
    lora: LoraSettings | None = Field(default=None, description="Empty: every weight is trained.")
    row_tokens: int | None = Field(
        default=None, ge=16, description="Longest row, picture and reply included; empty: what the model can read."
    )

    @property
    def rows(self) -> int:
        """What the trainer counts as rows of a micro-batch."""
        return self.batch


def train_sft(base: Path, examples: Sequence[Example], out: Path, settings: SftSettings) -> dict[str, Any]:
    """Fine-tune `base` on the examples into `out`. Equal arguments give equal bytes, also after a kill."""
    if crew.wanted():
        return crew.train_together("sft", base, examples, out, settings, settings.rows)
    seen = settings.steps * settings.batch * settings.accumulation
    if not ranks.several():
        refuse_too_little(base, settings, settings.lora)
    given = [Row(e.item, e.image, e.user, e.assistant) for e in examples]
    unfit = RowBudget(base, settings.row_tokens).unfit(given)
    examples = [e for place, e in enumerate(examples) if place not in unfit]
    plain = plain_text(base)
    adapters = Adapters(settings.lora, settings.seed)
    order = schedule([e.weight for e in examples], seen, settings.seed)

    def read(row: int) -> dict[str, Any]:
        example = examples[row]
        return {
            "prompt": [{"role": "user", "content": plain(example.user)}],
            "completion": [{"role": "assistant", "content": plain(example.assistant)}],
            "images": [read_image(example.image)],
        }

    def arguments(scratch: Path) -> Any:
        from trl import SFTConfig

        return SFTConfig(
            **common_arguments(settings, scratch) | ranks.arguments(settings.rows, settings.accumulation),
            # Any smaller length would cut the picture's tokens or the reply, and train on nothing without a word.
            max_length=None,
            completion_only_loss=True,
            train_sampling_strategy="sequential",
            packing=False,
        )

    def record(history: list[dict[str, Any]]) -> dict[str, Any]:
        losses = [row["loss"] for row in history if "loss" in row]
        accuracy = [row["mean_token_accuracy"] for row in history if "mean_token_accuracy" in row]
        return {
            "method": "sft",
            "examples": len(examples),
            "seen": seen,
            "left_out": {given[place].item or str(place): why for place, why in unfit.items()},
            "trained": adapters.trained,
            "first_loss": losses[0],
            "last_loss": sum(losses[-10:]) / len(losses[-10:]),
            "last_token_accuracy": sum(accuracy[-10:]) / len(accuracy[-10:]),
        }

    ready = ReadyRows(read)
    with reply_alone():
        return train_to_folder(
            base,
            out,
            _trainer(ready),
            arguments,
            settings,
            record,
            dress=adapters.dress,
            undress=adapters.undress,
            train_dataset=rows_dataset(order, ready.row),
        )


def _trainer(ready: ReadyRows) -> type[Any]:
    from trl import SFTTrainer

    class Sparing(SFTTrainer):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            tokenizer = self.processing_class.tokenizer
            self.data_collator: Any = ready.of(self.data_collator, tokenizer.pad_token_id)

    Sparing.__name__ = SFTTrainer.__name__
    return Sparing
