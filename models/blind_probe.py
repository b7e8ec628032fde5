"""The blind probe: how many keys of a batch can be told from words alone, by a rule that never sees a picture.

The rule is a linear choice among the options of an item, learned from pairs (key, rival) and tried on items about
other images. It stands for what a model that is trained on the batch could learn instead of looking.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from medgr2.models.texts import plain, words
from medgr2.schemas.items import Item
from medgr2.schemas.probe import BlindProbe, Cue, Probed
from medgr2.schemas.vocabulary import LETTERS

MARGIN = 0.05
"""So far above chance is a leak."""
Z = 2.326
"""One-sided 1%: what a batch of this size reaches by luck is none, however far above chance."""
FOLDS = 5
MOST = 20_000
"""Looked at; more tell nothing new."""
STRENGTH = 0.1
"""Inverse of the penalty on weights: a text of which there are few examples says little."""
SEEN_TWICE = 2
TOLD_FROM = 10
"""Words are told only if they stand below so many different images: then they are nobody's name."""
CUES = 8
CUES_OF_A_KIND = 4
LONGER = 1.3

Feature = tuple[str, str]
"""Its kind, and the text that it is about: what a person may be told of it depends on the kind."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What the rule sees of one item: its options, in their order, and which of them is the key."""

    image: str
    options: tuple[frozenset[Feature], ...]
    key: int


def probe(items: Iterable[Item]) -> BlindProbe:
    """The same items give the same answer in any order."""
    sample = sorted(items, key=lambda item: item.item_id)[:MOST]  # ids are hashes: the first are a fair sample
    looks = [_look(item) for item in sample]
    images = len({look.image for look in looks})
    if images < 2:
        return BlindProbe(verdict=Probed.TOO_FEW, items=len(looks), images=images)
    known = _seen_twice(looks)
    credit = _credits(looks, known, folds=min(FOLDS, images))
    chances = [1 / len(look.options) for look in looks]
    accuracy, chance = sum(credit) / len(looks), sum(chances) / len(looks)
    by_luck = Z * _standard_error(looks, credit, chances)
    leaks = accuracy > chance + max(MARGIN, by_luck)
    return BlindProbe(
        verdict=Probed.LEAKS if leaks else Probed.TOO_FEW if by_luck > MARGIN else Probed.PASSES,
        items=len(looks),
        images=images,
        accuracy=round(accuracy, 4),
        chance=round(chance, 4),
        limit=round(min(1.0, chance + max(MARGIN, by_luck)), 4),
        cues=tuple(_cues(looks, known)) if leaks else (),
    )


def _look(item: Item) -> _Look:
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
    return _Look(item.image_id, tuple(frozenset(own) for own in features), LETTERS.index(item.answer))


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


def _seen_twice(looks: Sequence[_Look]) -> dict[Feature, int]:
    """Columns. A text that stands below one image only says nothing of any other."""
    images: dict[Feature, set[str]] = defaultdict(set)
    for look in looks:
        for feature in frozenset().union(*look.options):
            if len(images[feature]) < SEEN_TWICE:
                images[feature].add(look.image)
    often = sorted(feature for feature, where in images.items() if len(where) >= SEEN_TWICE)
    return {feature: column for column, feature in enumerate(often)}


def _matrix(looks: Sequence[_Look], known: dict[Feature, int]) -> Any:
    """One row an option, the options of an item beneath each other."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=sorted, vocabulary=known).transform(
        option for look in looks for option in look.options
    )


def _learn(matrix: Any, looks: Sequence[_Look], first: Sequence[int], members: Sequence[int]) -> Any:
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


def _credits(looks: Sequence[_Look], known: dict[Feature, int], folds: int) -> list[float]:
    """1 for the key, 0 for a rival, and a share where the rule cannot decide between some. An image is never on both
    sides: two questions about it may give each other away, which is no rule."""
    from sklearn.model_selection import GroupKFold

    matrix, first = _matrix(looks, known), _firsts(looks)
    credit = [0.0] * len(looks)
    for train, test in GroupKFold(folds).split(first, groups=[look.image for look in looks]):
        says = matrix @ _learn(matrix, looks, first, train)
        for at in test:
            said = says[first[at] : first[at] + len(looks[at].options)].round(9)
            best = said == said.max()
            credit[at] = float(best[looks[at].key]) / float(best.sum())
    return credit


def _firsts(looks: Sequence[_Look]) -> list[int]:
    """Row of the first option of each item."""
    firsts, row = [], 0
    for look in looks:
        firsts.append(row)
        row += len(look.options)
    return firsts


def _standard_error(looks: Sequence[_Look], credit: Sequence[float], chances: Sequence[float]) -> float:
    """Of the accuracy of a rule that knows nothing. Questions about one image may stand and fall together: the larger
    of the error by items and the error by images."""
    by_image: dict[str, float] = defaultdict(float)
    for look, got, chance in zip(looks, credit, chances, strict=True):
        by_image[look.image] += got - chance
    over = math.fsum(by_image.values()) / len(by_image)
    by_images = sum((gain - over) ** 2 for gain in by_image.values())
    by_items = sum(chance * (1 - chance) for chance in chances)
    return math.sqrt(max(by_images, by_items)) / len(looks)


def _cues(looks: Sequence[_Look], known: dict[Feature, int]) -> list[Cue]:
    """What the rule goes by, most telling first: where keys are more, or fewer, than chance, and the rule says so."""
    weights = _learn(_matrix(looks, known), looks, _firsts(looks), range(len(looks)))
    shown: Counter[Feature] = Counter()
    keyed: Counter[Feature] = Counter()
    expected: dict[Feature, float] = defaultdict(float)
    images: dict[Feature, set[str]] = defaultdict(set)
    for look in looks:
        for at, option in enumerate(look.options):
            for feature in option:
                shown[feature] += 1
                keyed[feature] += at == look.key
                expected[feature] += 1 / len(look.options)
                images[feature].add(look.image)
    excess = {feature: keyed[feature] - expected[feature] for feature in known}
    telling = [f for f in known if excess[f] * weights[known[f]] > 0 and _is_more_than_luck(excess[f], expected[f])]
    cues: list[Cue] = []
    of_a_kind: Counter[str] = Counter()
    for feature in sorted(telling, key=lambda f: (-abs(excess[f] * weights[known[f]]), f)):
        told = _told(feature, len(images[feature]))
        if told is None or of_a_kind[feature[0]] == CUES_OF_A_KIND or any(cue.told == told for cue in cues):
            continue
        of_a_kind[feature[0]] += 1
        weight, chance = round(float(weights[known[feature]]), 3), round(float(expected[feature]), 1)
        cues.append(Cue(told=told, weight=weight, shown=shown[feature], keyed=keyed[feature], expected=chance))
    return cues[:CUES]


def _is_more_than_luck(excess: float, expected: float) -> bool:
    return abs(excess) > 2 * math.sqrt(expected)


_FIXED = {
    ("size", "longest"): "the longest option",
    ("size", "longest by far"): f"an option {LONGER} times as long as any other",
    ("size", "shortest"): "the shortest option",
    ("shares", "question"): "the option with most words of the question",
    ("shares", "options"): "the option with most words of the other options",
    ("form", "capital"): "an option with a capital",
    ("form", "stop"): "an option that ends with a stop",
    ("form", "number"): "an option with a number",
    ("form", "aside"): "an option with a comma or a bracket",
}


def _told(feature: Feature, images: int) -> str | None:
    """In words. Of the question nothing is said but that it matters."""
    kind, text = feature
    if kind == "letter":
        return f"letter {text}"
    if feature in _FIXED:
        return _FIXED[feature]
    if images < TOLD_FROM:
        return None
    if kind == "option":
        return f"option {plain(text.partition('|')[2])!r}"
    if kind in ("word", "pair"):
        return f"options with {text!r}"
    option, _, other = text.partition("|")
    return f"option {option!r} beside {other!r}" if kind == "beside" else f"option {option!r} after certain questions"
