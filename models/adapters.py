"""LoRA: what is trained are small adapters beside the weights, and what comes out is one model with them merged in."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class LoraSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)


class Adapters:
    """A model with adapters on all its linear layers, and back. Without settings it is trained as it is, in full."""

    def __init__(self, lora: LoraSettings | None, seed: int, *, whole: Collection[str] = ()) -> None:
        self._lora, self._seed, self._whole = lora, seed, tuple(whole)
        self.trained = 0

    def dress(self, model: Any) -> Any:
        if self._lora is not None:
            model = self._adapted(model, self._lora)
        self.trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return model

    def plain(self, model: Any) -> Any:
        return model.get_base_model() if self._lora is not None else model

    def undress(self, model: Any, _: Path) -> Any:
        return model.merge_and_unload() if self._lora is not None else model

    def _adapted(self, model: Any, lora: LoraSettings) -> Any:
        import torch
        from peft import LoraConfig, get_peft_model

        # Adapters begin at random, and the trainer seeds only what comes after it.
        torch.manual_seed(self._seed)
        # The output head shares its weights with the embedding in many models: merged, it would change both.
        apart = {*self._whole, *(n for n, m in model.named_modules() if m is model.get_output_embeddings())}
        linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n not in apart]
        return get_peft_model(
            model,
            LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                target_modules=linear,
                modules_to_save=list(self._whole) or None,
            ),
        )
