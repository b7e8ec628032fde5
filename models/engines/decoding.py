"""The decoding loop: rows of one batch grow token by token, each from its own noise, and leave when they are done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from medgr2.models.engines.noise import NoiseStream, gumbel, uniform

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class Row:
    """One sample in the making. Temperature 0 is greedy and draws no noise."""

    prompt: int
    noise: NoiseStream
    temperature: float
    limit: int
    tokens: list[int] = field(default_factory=list)
    finished: bool = False


Choose: TypeAlias = "Callable[[torch.Tensor, Sequence[Row]], torch.Tensor]"
"""The next token of each row, by its logits."""


def decode(model: Any, inputs: dict[str, Any], rows: Sequence[Row], end: Collection[int], choose: Choose) -> None:
    """Read the prompts once, then grow every row in place until it ends or reaches its limit.

    Prompts are padded on the left. Positions count real tokens, so padding moves nothing.
    """
    import torch

    mask = inputs["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    seen = model(**inputs, position_ids=positions, use_cache=True, logits_to_keep=1)
    owner = torch.tensor([row.prompt for row in rows], device=mask.device)
    cache, logits = seen.past_key_values, seen.logits[:, -1][owner]
    cache.batch_select_indices(owner)
    mask, position = mask[owner], positions[owner, -1:]
    alive = list(rows)
    while alive:
        chosen = choose(logits, alive)
        tokens: list[int] = chosen.tolist()
        stays = [place for place, row in enumerate(alive) if _grow(row, tokens[place], end)]
        if not stays:
            return
        if len(stays) < len(alive):
            keep = torch.tensor(stays, device=mask.device)
            cache.batch_select_indices(keep)
            mask, position, chosen = mask[keep], position[keep], chosen[keep]
            alive = [alive[place] for place in stays]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        position = position + 1
        seen = model(
            input_ids=chosen[:, None],
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        )
        logits = seen.logits[:, -1]


def _grow(row: Row, token: int, end: Collection[int]) -> bool:
    """Whether the row goes on."""
    row.finished = token in end
    if row.finished:
        return False
    row.tokens.append(token)
    return len(row.tokens) < row.limit


def gumbel_max(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """The argmax of logits/T plus Gumbel noise is one sample of softmax(logits/T). Noise for every word there is: exact
    to the last bit wherever it runs, and dear where the vocabulary is large."""
    import numpy as np
    import torch

    scores = logits.to(torch.float64).cpu().numpy()
    drawn = [place for place, row in enumerate(rows) if row.temperature > 0]
    if drawn:
        heat = np.array([rows[place].temperature for place in drawn])
        scores[drawn] = scores[drawn] / heat[:, None] + gumbel([rows[place].noise for place in drawn])
    return torch.from_numpy(np.argmax(scores, axis=-1)).to(logits.device)


def by_one_number(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Where one uniform number falls among the summed chances. The logits stay on their device."""
    import torch

    greedy = logits.argmax(-1)
    if not any(row.temperature > 0 for row in rows):
        return greedy
    heat = torch.tensor([row.temperature or 1.0 for row in rows], dtype=torch.float64, device=logits.device)
    falls = torch.tensor(uniform([row.noise for row in rows]), dtype=torch.float64, device=logits.device)
    sums = torch.softmax(logits.to(torch.float64) / heat[:, None], dim=-1).cumsum(-1)
    drawn = torch.searchsorted(sums, falls[:, None] * sums[:, -1:], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    hot = torch.tensor([row.temperature > 0 for row in rows], device=logits.device)
    return torch.where(hot, drawn, greedy)
