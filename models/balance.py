"""Balance: which items of a batch must go so that no label, and no letter, is the key more often than chance allows.

Nothing is reordered or reworded: options belong to an item's id, and to the signals that judged it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import NormalDist

from medgr2.models.texts import plain
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import LETTERS

Rule = Callable[[Item], Sequence[str]]
"""What stands for each option, in the order of the options."""

BY_LUCK = 0.01
"""So many of the batches that are even lose anything. Luck is left alone: no rule can go by it."""
SLACK = 0.02
"""Of the options with a label: a surplus so small is no use to a guess."""
LEAST = 0.25
"""A label that is never a key cannot be mended by dropping others. If less than this share would be left, nothing is
dropped: the blind probe has to stop such a batch."""


def by_key(item: Item) -> Sequence[str]:
    """Labels are even within a question type: only there do they compete."""
    return [f"{item.question_type}|{plain(option) or option}" for option in item.options]


def by_letter(item: Item) -> Sequence[str]:
    return [chr(ord("A") + at) for at in range(len(item.options))]


def surplus(ranked: Sequence[Item], rule: Rule) -> frozenset[str]:
    """Ids of the items to drop. Of a label with more keys than chance allows the last in the ranking go, until it has
    as many as an even spread gives it."""
    labels = [rule(item) for item in ranked]
    keys = [own[LETTERS.index(item.answer)] for own, item in zip(labels, ranked, strict=True)]
    due: dict[str, float] = defaultdict(float)
    spread: dict[str, float] = defaultdict(float)
    waiting: dict[str, list[int]] = defaultdict(list)
    for at, own in enumerate(labels):
        waiting[keys[at]].append(at)
        for label in own:
            due[label] += 1 / len(own)
            spread[label] += (1 - 1 / len(own)) / len(own)
    z = NormalDist().inv_cdf(1 - BY_LUCK / max(1, len(due)))
    dropped: set[int] = set()
    crowds = {label for label in waiting if _excess(label, waiting, due) > _luck(label, due, spread, z)}
    while crowds:
        worst = max(sorted(crowds), key=lambda label: _excess(label, waiting, due) / due[label])
        if _excess(worst, waiting, due) <= SLACK * due[worst]:
            break
        out = waiting[worst].pop()
        dropped.add(out)
        if len(dropped) > (1 - LEAST) * len(ranked):
            return frozenset()
        for label in labels[out]:
            share = 1 / len(labels[out])
            due[label] -= share
            spread[label] -= (1 - share) * share
            if waiting[label] and _excess(label, waiting, due) > _luck(label, due, spread, z):
                crowds.add(label)
    return frozenset(ranked[at].item_id for at in dropped)


def _excess(label: str, waiting: dict[str, list[int]], due: dict[str, float]) -> float:
    return len(waiting[label]) - due[label]


def _luck(label: str, due: dict[str, float], spread: dict[str, float], z: float) -> float:
    return max(SLACK * due[label], z * math.sqrt(max(0.0, spread[label])))
