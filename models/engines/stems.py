"""Stems: prompts about one picture begin alike. What they share is read once, the picture above all."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any


@dataclass(frozen=True, slots=True)
class Stem:
    """The first words of some prompts, up to where the first of them goes another way."""

    prompts: tuple[int, ...]
    rest: tuple[tuple[int, ...], ...]
    """The tokens that each of them has left; one at least."""


def stems_of(pictures: Sequence[Hashable], ids: Sequence[Sequence[int]]) -> list[Stem]:
    """One for each picture, in the order in which they come."""
    about: dict[Hashable, list[int]] = {}
    for prompt, picture in enumerate(pictures):
        about.setdefault(picture, []).append(prompt)
    found = []
    for prompts in about.values():
        told = [ids[prompt] for prompt in prompts]
        alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*told, strict=False)))
        alike = min(alike, min(map(len, told)) - 1)
        found.append(Stem(tuple(prompts), tuple(tuple(one[alike:]) for one in told)))
    return found


def spares(stems: Sequence[Stem], ids: Sequence[Sequence[int]]) -> bool:
    """Whether fewer tokens are read this way, padding included. The picture's are not counted: they can only add to
    what is spared."""
    if all(len(stem.prompts) == 1 for stem in stems):
        return False
    stem_width = max(len(ids[stem.prompts[0]]) - len(stem.rest[0]) for stem in stems)
    rest_width = max(len(rest) for stem in stems for rest in stem.rest)
    return len(stems) * stem_width + len(ids) * rest_width < len(ids) * max(map(len, ids))


def cut(inputs: Mapping[str, Any], plain: Sequence[Sequence[int]], stems: Sequence[Stem], pad: int) -> dict[str, Any]:
    """The processor's reading of one whole prompt a stem, without what comes after the stem; empty where that cannot be
    told, because the picture's tokens are not followed by those of the words alone.

    `plain` are the same prompts, in which the picture is one token and not yet as many as it takes.
    """
    import torch

    shape, mask = inputs["input_ids"].shape, inputs["attention_mask"]
    lengths = mask.sum(-1).tolist()
    whole = [row[shape[1] - length :] for row, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
    for stem, read, told in zip(stems, whole, plain, strict=True):
        same = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(read), reversed(told), strict=False))
        )
        if len(stem.rest[0]) >= same:
            return {}
    kept = [length - len(stem.rest[0]) for stem, length in zip(stems, lengths, strict=True)]
    width = max(kept)
    places = torch.arange(width, device=mask.device)[None, :]
    # Prompts are padded on the left: the stem of a row ends as many places before its end as its rest takes.
    ends = torch.tensor([shape[1] - len(stem.rest[0]) for stem in stems], device=mask.device)[:, None]
    real = places >= width - torch.tensor(kept, device=mask.device)[:, None]
    source = (ends - width + places).clamp(min=0)
    found = dict(inputs)
    for name, values in inputs.items():
        if getattr(values, "shape", None) == shape:
            filler = pad if name == "input_ids" else 0
            found[name] = values.gather(1, source).where(real, filler)
    return found


def in_order(stems: Sequence[Stem]) -> tuple[list[int], list[tuple[int, ...]]]:
    """The stem of each prompt, and what it has left."""
    pairs: Iterator[tuple[int, int, tuple[int, ...]]] = (
        (prompt, place, rest)
        for place, stem in enumerate(stems)
        for prompt, rest in zip(stem.prompts, stem.rest, strict=True)
    )
    ordered = sorted(pairs)
    return [place for _, place, _ in ordered], [rest for _, _, rest in ordered]
