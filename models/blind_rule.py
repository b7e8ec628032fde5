"""The rule of the blind probe: what can be seen of an item without its picture, and a linear choice among its options.

It stands for what a model that is trained on a batch could learn instead of looking.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from medgr2.models.texts import words
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import LETTERS

STRENGTH = 0.1
"""Inverse of the penalty on weights: a text of which there are few examples says little."""
SEEN_TWICE = 2
LONGER = 1.3

Feature = tuple[str, str]
"""Its kind, and the text that it is about: what a person may be told of it depends on the kind."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the rule sees of one item: its options, in their order, and which of them is the key."""

    item_id: str
    image: str
    options: tuple[frozenset[Feature], ...]
    key: int


class Looks:
    """A batch as the rule sees it. Items are named by their place in it."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.all = [_look(item) for item in items]
        self.known = _seen_twice(self.all)
        """Columns of the features that the rule may use."""
        self.chances = [1 / len(look.options) for look in self.all]
        self._first = _firsts(self.all)

    @cached_property
    def _matrix(self) -> Any:
        return _matrix(self.all, self.known)

    @property
    def images(self) -> list[str]:
        return [look.image for look in self.all]

    def weights(self, members: Collection[int]) -> Any:
        return _learn(self._matrix, self.all, self._first, members)

    def said(self, weights: Any) -> list[Any]:
        """Of each option of each item: how much speaks for it."""
        says = (self._matrix @ weights).round(9)
        return [says[first : first + len(look.options)] for first, look in zip(self._first, self.all, strict=True)]

    def credit(self, at: int, said: Any) -> float:
        """1 for the key, 0 for a rival, and a share where the rule cannot decide between some."""
        best = said == said.max()
        return float(best[self.all[at].key]) / float(best.sum())

    def margin(self, at: int, said: Any) -> float:
        """By how much the key is ahead of its best rival, below zero if it is not."""
        key = self.all[at].key
        return float(said[key] - max(said[:key].max(initial=-1e9), said[key + 1 :].max(initial=-1e9)))


def _look(item: Item) -> Look:
    options = [words(option) for option in item.options]
    stem = set(words(item.question))
    lengths = [len(option) for option in item.options]
    features: list[set[Feature]] = []
    for at, option in enumerate(options):
        text, others = " ".join(option), options[:at] + options[at + 1 :]
        own: set[Feature] = {("letter", chr(ord("A") + at)), ("option", f"{item.question_type}|{text}")}
        own.update(("word", word) for word in option)
        own.update(("pair", " ".join(pair)) for pair in pairwise(option))
        own.update(("beside", f"{text}|{' '.join(other)}") for other in others)
        own.update(("asked", f"{text}|{word}") for word in stem)
        own.update(("form", form) for form in _forms(item.options[at]))
        rivals = lengths[:at] + lengths[at + 1 :]
        if lengths[at] > max(rivals):
            own.add(("size", "longest"))
        if lengths[at] > LONGER * max(rivals):
            own.add(("size", "longest by far"))
        if lengths[at] < min(rivals):
            own.add(("size", "shortest"))
        features.append(own)
    _mark(features, ("shares", "question"), [len(stem.intersection(option)) for option in options])
    shared = Counter(word for option in options for word in set(option))
    _mark(features, ("shares", "options"), [sum(shared[word] > 1 for word in set(option)) for option in options])
    return Look(item.item_id, item.image_id, tuple(frozenset(own) for own in features), LETTERS.index(item.answer))


def _forms(option: str) -> Iterator[str]:
    """How an option is written, which the comparison of words passes over."""
    if option[:1].isupper():
        yield "capital"
    if option[-1:] in ".!;:":
        yield "stop"
    if any(sign.isdigit() for sign in option):
        yield "number"
    if "(" in option or "," in option:
        yield "aside"


def _mark(features: Sequence[set[Feature]], mark: Feature, counts: Sequence[int]) -> None:
    """The one option that has most of something."""
    most = max(counts)
    if counts.count(most) == 1:
        features[counts.index(most)].add(mark)


def _seen_twice(looks: Sequence[Look]) -> dict[Feature, int]:
    """Columns. A text that stands below one image only says nothing of any other."""
    images: dict[Feature, set[str]] = defaultdict(set)
    for look in looks:
        for feature in frozenset().union(*look.options):
            if len(images[feature]) < SEEN_TWICE:
                images[feature].add(look.image)
    often = sorted(feature for feature, where in images.items() if len(where) >= SEEN_TWICE)
    return {feature: column for column, feature in enumerate(often)}


def _matrix(looks: Sequence[Look], known: dict[Feature, int]) -> Any:
    """One row an option, the options of an item beneath each other."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=sorted, vocabulary=known).transform(
        option for look in looks for option in look.options
    )


def _learn(matrix: Any, looks: Sequence[Look], first: Sequence[int], members: Iterable[int]) -> Any:
    """Weights of a linear choice: the differences between a key and each of its rivals, every item counting once."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    keys, rivals, shares = [], [], []
    for at in members:
        look = looks[at]
        for option in range(len(look.options)):
            if option != look.key:
                keys.append(first[at] + look.key)
                rivals.append(first[at] + option)
                shares.append(1 / (len(look.options) - 1))
    # Both signs of the same difference say the same, and a regression wants to see two classes.
    sign = np.where(np.arange(len(keys)) % 2 == 0, 1.0, -1.0)
    apart = (matrix[keys] - matrix[rivals]).multiply(sign[:, None]).tocsr()
    rule = LogisticRegression(C=STRENGTH, fit_intercept=False, max_iter=200, tol=1e-4)
    return rule.fit(apart, sign > 0, sample_weight=np.array(shares)).coef_[0]


def _firsts(looks: Sequence[Look]) -> list[int]:
    """Row of the first option of each item."""
    firsts, row = [], 0
    for look in looks:
        firsts.append(row)
        row += len(look.options)
    return firsts
