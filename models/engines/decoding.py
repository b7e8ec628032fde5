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
    weighed: bool = False
    tokens: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    """Log-probabilities of the tokens, and of the end; of weighed rows only."""
    finished: bool = False


Choose: TypeAlias = "Callable[[torch.Tensor, Sequence[Row]], torch.Tensor]"
"""The next token of each row, by its logits."""


@dataclass(slots=True)
class Prompts:
    """Prompts that were read: what the model remembers of each, and what it would say next."""

    cache: Any
    logits: torch.Tensor
    mask: torch.Tensor
    position: torch.Tensor


def read(model: Any, inputs: dict[str, Any]) -> Prompts:
    """Prompts are padded on the left. Positions count real tokens, so padding moves nothing."""
    mask = inputs["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    if several_axes(model):
        # Of a picture's tokens each axis counts its own way, and the words go on behind the farthest of them.
        positions, _ = model.model.get_rope_index(**inputs)
    seen = model(**inputs, position_ids=positions, use_cache=True, logits_to_keep=1)
    # A prompt ends in words, which all axes count alike.
    last = positions[0, :, -1:] if several_axes(model) else positions[:, -1:]
    return Prompts(seen.past_key_values, seen.logits[:, -1], mask, last)


def several_axes(model: Any) -> bool:
    """Whether a token has a position in time, height and width, as in the Qwen-VL families."""
    return hasattr(model.model, "get_rope_index")


def _on_axes(model: Any, positions: torch.Tensor) -> torch.Tensor:
    """Of words."""
    return positions.expand(3, *positions.shape) if several_axes(model) else positions


def read_on(model: Any, stems: Prompts, owners: Sequence[int], rest: Sequence[Sequence[int]], pad: int) -> Prompts:
    """Prompts that go on from what was read already, each from its owner. The stems are used up."""
    import torch

    device, width = stems.mask.device, max(map(len, rest))
    owner = torch.tensor(owners, device=device)
    ids = torch.tensor([[*[pad] * (width - len(one)), *one] for one in rest], device=device)
    real = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in rest], device=device)
    stems.cache.batch_select_indices(owner)
    mask = torch.cat([stems.mask[owner], real], dim=1)
    positions = stems.position[owner] + real.cumsum(-1).clamp(min=1)
    seen = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=_on_axes(model, positions),
        past_key_values=stems.cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return Prompts(seen.past_key_values, seen.logits[:, -1], mask, positions[:, -1:])


def likelihood(model: Any, prompts: Prompts, replies: Sequence[Sequence[int]], pad: int) -> list[float]:
    """Log-probability of one reply to each prompt. The prompts are afterwards as they were."""
    import torch

    width = max(map(len, replies))
    device = prompts.mask.device
    ids = torch.tensor([[*reply, *[pad] * (width - len(reply))] for reply in replies], device=device)
    real = torch.tensor([[1] * len(reply) + [0] * (width - len(reply)) for reply in replies], device=device)
    seen = model(
        input_ids=ids,
        attention_mask=torch.cat([prompts.mask, real], dim=1),
        position_ids=_on_axes(model, prompts.position + real.cumsum(-1).clamp(min=1)),
        past_key_values=prompts.cache,
        use_cache=True,
    )
    prompts.cache.crop(-width)
    logits = torch.cat([prompts.logits[:, None], seen.logits[:, :-1]], dim=1)
    spread = torch.log_softmax(logits.to(torch.float64), dim=-1)
    said: list[float] = (spread.gather(-1, ids[..., None])[..., 0] * real).sum(-1).tolist()
    return said


def grow(model: Any, prompts: Prompts, rows: Sequence[Row], end: Collection[int], choose: Choose) -> None:
    """Every row in place until it ends or reaches its limit. The prompts are used up.

    Rows of one prompt that said the same so far are one branch, read once: a model that is sure of itself says the same
    in most of its samples, and for most of a reply. A branch forks where its rows choose differently.
    """
    import torch

    from medgr2.models.engines.room import make_room

    if not rows:
        return
    device, alive = prompts.mask.device, list(rows)
    begun = sorted({row.prompt for row in rows})
    branch = [begun.index(row.prompt) for row in rows]
    parents = torch.tensor(begun, device=device)
    cache, logits = prompts.cache, prompts.logits[parents]
    mask, position = prompts.mask[parents], prompts.position[parents]
    make_room(cache, parents)
    while alive:
        each = logits[torch.tensor(branch, device=device)]
        chosen = choose(each, alive)
        _weigh(each, alive, chosen)
        forks: dict[tuple[int, int], int] = {}
        going_on = []
        for row, at, token in zip(alive, branch, chosen.tolist(), strict=True):
            if _grow(row, token, end):
                going_on.append((row, forks.setdefault((at, token), len(forks))))
        if not going_on:
            return
        alive, branch = [row for row, _ in going_on], [at for _, at in going_on]
        if [at for at, _ in forks] != list(range(len(logits))):
            parents = torch.tensor([at for at, _ in forks], device=device)
            cache.batch_select_indices(parents)
            mask, position = mask[parents], position[parents]
        mask = torch.cat([mask, mask.new_ones(len(forks), 1)], dim=1)
        position = position + 1
        seen = model(
            input_ids=torch.tensor([[token] for _, token in forks], device=device),
            attention_mask=mask,
            position_ids=_on_axes(model, position),
            past_key_values=cache,
            use_cache=True,
        )
        logits = seen.logits[:, -1]


def _weigh(logits: torch.Tensor, rows: Sequence[Row], chosen: torch.Tensor) -> None:
    import torch

    if places := [place for place, row in enumerate(rows) if row.weighed]:
        spread = torch.log_softmax(logits[places].to(torch.float64), dim=-1)
        chances: list[float] = spread.gather(-1, chosen[places][:, None])[:, 0].tolist()
        for place, chance in zip(places, chances, strict=True):
            rows[place].chances.append(chance)


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
