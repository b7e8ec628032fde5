"""Balance: which items of a batch must go so that no label, and no letter, is the key more often than chance allows.

Nothing is reordered or reworded: options belong to an item's id, and to the signals that judged it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from medgr2.models.texts import plain
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import LETTERS

Rule = Callable[[Item], Sequence[tuple[str, str]]]
"""What stands for each option, in their order: the group within which it competes, and its label."""

Z = NormalDist().inv_cdf(0.99)
"""Of the groups that are even one in a hundred loses anything. Luck is left alone: no rule can go by it."""
EVEN = 1.0
"""What is uneven is made as even as a fair draw is on average, no more: every item that goes is a good one."""
COMMON = 1.0
"""Labels that are due fewer keys are too rare to be called uneven."""
LEAST = 0.25
"""A label that is never a key cannot be mended by dropping others. If less than this share of a group would be left,
nothing of it is dropped: the blind probe has to stop such a batch."""


def by_key(item: Item) -> Sequence[tuple[str, str]]:
    """Labels are even within a question type: only there do they compete."""
    return [(item.question_type, plain(option) or option) for option in item.options]


def by_letter(item: Item) -> Sequence[tuple[str, str]]:
    return [("letters", chr(ord("A") + at)) for at in range(len(item.options))]


def surplus(ranked: Sequence[Item], rule: Rule) -> frozenset[str]:
    """Ids of the items to drop. Where keys are less even than chance allows, those of the label with the clearest
    surplus go, the last in the ranking first."""
    groups: dict[str, _Group] = defaultdict(_Group)
    for item in ranked:
        options = rule(item)
        group = groups[options[0][0]]
        group.add(item.item_id, [label for _, label in options], LETTERS.index(item.answer))
    return frozenset(item_id for group in groups.values() for item_id in group.surplus())


@dataclass
class _Group:
    shown: dict[str, list[str]] = field(default_factory=dict)
    """Labels of the options, by item."""
    keyed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Items by the label of their key, best first."""
    due: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Keys that a label has by chance, and the variance of their number."""
    variance: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, item_id: str, labels: Sequence[str], key: int) -> None:
        self.shown[item_id] = list(labels)
        self.keyed[labels[key]].append(item_id)
        self._count(labels, +1)

    def surplus(self) -> set[str]:
        dropped: set[str] = set()
        common, unevenness = self._unevenness(self.due)
        if len(common) < 2 or unevenness <= _by_luck(len(common) - 1):
            return dropped
        most = (1 - LEAST) * len(self.shown)
        while len(common) > 1 and unevenness > EVEN * (len(common) - 1):
            worst = max(common, key=self._deviation)
            if self._deviation(worst) <= 0 or len(dropped) >= most:
                return set()  # nobody has too many: some label has too few, and dropping does not mend that
            out = self.keyed[worst].pop()
            dropped.add(out)
            self._count(self.shown[out], -1)
            common, unevenness = self._unevenness(common)  # what is dropped makes no label commoner
        return dropped

    def _count(self, labels: Sequence[str], sign: int) -> None:
        for label in labels:
            self.due[label] += sign / len(labels)
            self.variance[label] += sign * (1 - 1 / len(labels)) / len(labels)

    def _deviation(self, label: str) -> float:
        return (len(self.keyed[label]) - self.due[label]) / math.sqrt(self.variance[label])

    def _unevenness(self, labels: Iterable[str]) -> tuple[list[str], float]:
        """Those that are common, and the sum of their squared deviations: by chance about as many as they are."""
        common = sorted(label for label in labels if self.due[label] >= COMMON)
        return common, math.fsum(self._deviation(label) ** 2 for label in common)


def _by_luck(freedom: int) -> float:
    """The 99th percentile of chi-squared, as Wilson and Hilferty have it."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + Z * math.sqrt(part)) ** 3
