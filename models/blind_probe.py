"""The blind probe: how many keys of a batch can be told from words alone, by a rule that never sees a picture, learned
from some images' items and tried on those about others.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from medgr2.models.blind_rule import LONGER, Feature, Looks
from medgr2.models.texts import plain
from medgr2.schemas.items import Item
from medgr2.schemas.probe import BlindProbe, Cue, Probed

MARGIN = 0.05
"""So far above chance is a leak."""
Z = 2.326
"""One-sided 1%: what a batch of this size reaches by luck is none, however far above chance."""
FOLDS = 5
MOST = 20_000
"""Looked at; more tell nothing new."""
TOLD_FROM = 10
"""Words are told only if they stand below so many different images: then they are nobody's name."""
CUES = 8
CUES_OF_A_KIND = 4


def probe(items: Iterable[Item]) -> BlindProbe:
    """The same items give the same answer in any order."""
    # Ids are hashes: the first are a fair sample.
    looks = Looks(sorted(items, key=lambda item: item.item_id)[:MOST])
    n, images = len(looks.all), len(set(looks.images))
    if images < 2:
        return BlindProbe(verdict=Probed.TOO_FEW, items=n, images=images)
    credit = _credits(looks, folds=min(FOLDS, images))
    accuracy, chance = sum(credit) / n, sum(looks.chances) / n
    by_luck = Z * _standard_error(looks, credit)
    leaks = accuracy > chance + max(MARGIN, by_luck)
    return BlindProbe(
        verdict=Probed.LEAKS if leaks else Probed.TOO_FEW if by_luck > MARGIN else Probed.PASSES,
        items=n,
        images=images,
        accuracy=round(accuracy, 4),
        chance=round(chance, 4),
        limit=round(min(1.0, chance + max(MARGIN, by_luck)), 4),
        cues=tuple(_cues(looks)) if leaks else (),
    )


def _credits(looks: Looks, folds: int) -> list[float]:
    """An image is never on both sides: two questions about it may give each other away, which is no rule."""
    from sklearn.model_selection import GroupKFold

    credit = [0.0] * len(looks.all)
    for train, test in GroupKFold(folds).split(credit, groups=looks.images):
        said = looks.said(looks.weights(train))
        for at in test:
            credit[at] = looks.credit(at, said[at])
    return credit


def _standard_error(looks: Looks, credit: Sequence[float]) -> float:
    """Of the accuracy of a rule that knows nothing. Questions about one image may stand and fall together: the larger
    of the error by items and the error by images."""
    by_image: dict[str, float] = defaultdict(float)
    for image, got, chance in zip(looks.images, credit, looks.chances, strict=True):
        by_image[image] += got - chance
    over = math.fsum(by_image.values()) / len(by_image)
    by_images = sum((gain - over) ** 2 for gain in by_image.values())
    by_items = sum(chance * (1 - chance) for chance in looks.chances)
    return math.sqrt(max(by_images, by_items)) / len(looks.all)


def _cues(looks: Looks) -> list[Cue]:
    """What the rule goes by, most telling first: where keys are more, or fewer, than chance, and the rule says so."""
    known, weights = looks.known, looks.weights(range(len(looks.all)))
    shown: Counter[Feature] = Counter()
    keyed: Counter[Feature] = Counter()
    expected: dict[Feature, float] = defaultdict(float)
    images: dict[Feature, set[str]] = defaultdict(set)
    for look in looks.all:
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
