"""A trained reward model: reads claims into numbers, the same for a claim whatever is read beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from medgr2.models.engines.transformers import TransformersEngine
from medgr2.models.judging import Claim, Form, JudgeReader, head_values, log_odds, refuse_no_number
from medgr2.models.training import RECORD
from medgr2.schemas.errors import DataError, NotFoundError, UsageError

HEAD = "reward_head.safetensors"
CLAIMS = 32  # read side by side


class JudgeCard(BaseModel):
    """How a reward model was asked when it learned, and so how it has to be asked. Part of the record of training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form
    prompt_name: str
    prompt: str
    architecture: str


class RewardModel:
    """A folder of `train_reward`. On a CPU it counts in float64, as the engine does, and for the same reason."""

    def __init__(self, folder: Path, *, dtype: str = "float64", device: str = "cpu") -> None:
        self.card = _read_card(folder)
        engine = TransformersEngine(folder, dtype=dtype, device=device)
        self._model, self._device = engine.model, device
        self._reader = JudgeReader(engine.processor, self.card.prompt)
        self._head = _read_head(folder, self._model) if self.card.form == "head" else None
        self._words = self._reader.words() if self.card.form == "yes-no" else (0, 0)

    def score(self, claims: Sequence[Claim]) -> list[float]:
        """In [0, 1]: the probability of Yes against No, or the head's grade within its range."""
        order = sorted(range(len(claims)), key=lambda i: len(claims[i].question) + len(claims[i].rationale))
        found: dict[int, float] = {}
        for start in range(0, len(order), CLAIMS):
            group = order[start : start + CLAIMS]
            found.update(zip(group, self._read([claims[i] for i in group]), strict=True))
        return [found[i] for i in range(len(claims))]

    def _read(self, claims: Sequence[Claim]) -> list[float]:
        import torch

        with torch.inference_mode():
            inputs = {name: values.to(self._device) for name, values in self._reader.inputs(claims).items()}
            if self._head is not None:
                seen = head_values(self._model, self._head, inputs)
            else:
                seen = torch.sigmoid(log_odds(self._model, inputs, self._words).to(torch.float64))
        values: list[float] = seen.to(torch.float64).tolist()
        refuse_no_number(values, "scores of the reward model")
        return [min(1.0, max(0.0, value)) for value in values]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the members of an ensemble think of a claim. Where they differ, the claim is worth less."""

    mean: float
    std: float

    @property
    def score(self) -> float:
        return self.mean - self.std


class Ensemble:
    """The same training from a few seeds."""

    def __init__(self, members: Sequence[RewardModel]) -> None:
        if not members:
            raise UsageError("an ensemble of no reward model", next_command="train two or three seeds")
        if len({member.card for member in members}) > 1:
            raise UsageError(
                "the members of an ensemble were trained to be asked in different ways",
                next_command="train all of them with the same form, prompt and base",
            )
        self._members = members

    def judge(self, claims: Sequence[Claim]) -> list[Opinion]:
        scores = zip(*(member.score(claims) for member in self._members), strict=True)
        return [Opinion(fmean(of_one), pstdev(of_one)) for of_one in scores]


@lru_cache(maxsize=16)
def load_reward(folder: Path, dtype: str = "float64", device: str = "cpu") -> RewardModel:
    """One a process and folder; a folder of the artifact store never changes."""
    return RewardModel(folder, dtype=dtype, device=device)


def _read_card(folder: Path) -> JudgeCard:
    if not folder.is_dir():
        raise NotFoundError("no such folder of a reward model", where=str(folder), next_command="medgr2 models list")
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        card = JudgeCard.model_validate(record["judge"])
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        built = str(config["architectures"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError, ValidationError) as problem:
        raise DataError(
            f"not a reward model: its training record or configuration can not be read ({type(problem).__name__})",
            where=str(folder),
            kept="no item was scored",
            next_command="name a folder that reward training wrote",
        ) from None
    if built != card.architecture:
        raise DataError(
            f"a reward model of another architecture: trained as {card.architecture}, the folder holds {built}",
            where=str(folder),
            kept="no item was scored",
            next_command="train the reward model again from its base",
        )
    return card


def _read_head(folder: Path, model: Any) -> Any:
    import torch

    width = int(model.config.get_text_config().hidden_size)
    tensors, what = _head_tensors(folder / HEAD, width)
    if what:
        raise DataError(
            f"the head of the reward model {what}",
            where=str(folder / HEAD),
            kept="no item was scored",
            next_command="train the reward model again",
        )
    head = torch.nn.Linear(width, 1)
    head.load_state_dict(tensors)
    example = next(model.parameters())
    return head.to(device=example.device, dtype=example.dtype).requires_grad_(False)


def _head_tensors(path: Path, width: int) -> tuple[dict[str, Any], str]:
    """And what is wrong with them."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        return {}, "is missing, though it was trained with one"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as problem:
        return {}, f"can not be read ({type(problem).__name__})"
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != {"weight": (1, width), "bias": (1,)}:
        return {}, f"belongs to another architecture: this one reads {width} numbers"
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        return {}, "holds weights that are not finite numbers"
    return tensors, ""
