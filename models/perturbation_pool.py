"""Those items among which an item is perturbed: what else is asked, and what else is known of which picture."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from medgr2.models.perturbation_words import same_answer
from medgr2.models.texts import plain
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType

NEAR = 5  # pictures among which a swap chooses
LOOKED_AT = 512  # of very many, some are near enough
# Whose options answer no question of the other type, whatever they are.
APART = frozenset(
    {
        frozenset((QuestionType.MODALITY, QuestionType.ANATOMY)),
        frozenset((QuestionType.MODALITY, QuestionType.DISEASE)),
        frozenset((QuestionType.MODALITY, QuestionType.GRADING)),
        frozenset((QuestionType.ANATOMY, QuestionType.DISEASE)),
        frozenset((QuestionType.ANATOMY, QuestionType.GRADING)),
    }
)
_EXCEPTS = re.compile(
    r"\b(?:not|no|never|except|least|false|incorrect|wrong|untrue|absent|neither|without|unlikely)\b", re.IGNORECASE
)
# Answers that mean nothing without their question.
_BARE = re.compile(
    r"(?:yes|no|true|false|none|left|right|both|present|absent|positive|negative|one|two|three|four|five|six|[\W\d]+\w{0,3})",
    re.IGNORECASE,
)

Answer = tuple[QuestionType, str, str]
T = TypeVar("T")


class _Without(Sequence[T]):
    """A list without its members at a few places, which are in order."""

    def __init__(self, whole: Sequence[T], places: Sequence[int]) -> None:
        self._whole, self._places = whole, places

    def __len__(self) -> int:
        return len(self._whole) - len(self._places)

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...

    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        for place in self._places:
            at += place <= at
        return self._whole[at]


def _without(ordered: Sequence[str], one: str) -> Sequence[str]:
    at = bisect_left(ordered, one)
    return _Without(ordered, [at] if at < len(ordered) and ordered[at] == one else [])


class Pool:
    """Good items. `modality` and `looks` (a vector a picture: near ones look alike) are by image id, where known.

    The order in which items are given does not matter, and an item given twice counts once.
    """

    def __init__(
        self,
        items: Iterable[Item],
        modality: Mapping[str, str] | None = None,
        looks: Mapping[str, NDArray[np.floating]] | None = None,
    ) -> None:
        self.items = tuple(item for _, item in sorted({item.item_id: item for item in items}.items()))
        self._modality = dict(modality or {})
        self._looks = dict(looks or {})
        self._of_type: dict[QuestionType, list[Item]] = defaultdict(list)
        self._said: set[tuple[str, str, str]] = set()
        self._keys: dict[tuple[str, QuestionType], list[str]] = defaultdict(list)
        self._denied_by: dict[Answer, set[str]] = defaultdict(set)
        for item in self.items:
            self._show(item)
        # Of a hundred thousand items none may look at all the others by itself.
        self._others: dict[tuple[QuestionType, bool], tuple[list[Item], dict[str, list[int]]]] = {}
        self._deniers: dict[tuple[Answer, str], tuple[list[str], dict[str, list[str]]]] = {}

    def modality(self, item: Item) -> str:
        return self._modality.get(item.image_id, "")

    def says(self, item: Item) -> bool:
        """Whether a good item gives the same answer to the same question about the same picture."""
        return (item.image_id, plain(item.question), plain(item.key_text)) in self._said

    def other_items(self, item: Item, *, apart: bool) -> Sequence[Item]:
        """Of another type and about another picture; `apart`: of types that can not be mistaken for each other."""
        others, of_image = self._of_other_types(item.question_type, apart)
        return _Without(others, of_image.get(item.image_id, []))

    def other_picture(self, item: Item, rng: Random) -> str | None:
        """A picture of which it is known that the key of this item is not true of it: of the same modality where there
        is one, and of these one of the nearest in the look."""
        if asks_for_exception(item.question):
            return None
        known, of_modality = self._denying(item)
        alike = _without(of_modality.get(self._modality.get(item.image_id, ""), []), item.image_id)
        able = alike or _without(known, item.image_id)
        choice = self._nearest(item.image_id, able, rng) or able
        return rng.choice(choice) if choice else None

    def _of_other_types(self, own: QuestionType, apart: bool) -> tuple[list[Item], dict[str, list[int]]]:
        """And the places of each picture's items among them."""
        if (own, apart) not in self._others:
            types = [t for t in QuestionType if t is not own and (not apart or frozenset((own, t)) in APART)]
            others = [other for t in types for other in self._of_type.get(t, [])]
            places = defaultdict[str, list[int]](list)
            for place, other in enumerate(others):
                places[other.image_id].append(place)
            self._others[own, apart] = others, dict(places)
        return self._others[own, apart]

    def _denying(self, item: Item) -> tuple[list[str], dict[str, list[str]]]:
        """Pictures of which the key of this item is not true, in order; of all, and of each modality that is known."""
        asked = _answer(item, item.key_text), item.key_text
        if asked not in self._deniers:
            known = sorted(self._denied_by.get(asked[0], set()))
            able = [image for image in known if self._false_of(item, image)]
            of_modality = defaultdict[str, list[str]](list)
            for image in able:
                if modality := self._modality.get(image):
                    of_modality[modality].append(image)
            self._deniers[asked] = able, dict(of_modality)
        return self._deniers[asked]

    def _show(self, item: Item) -> None:
        self._of_type[item.question_type].append(item)
        self._said.add((item.image_id, plain(item.question), plain(item.key_text)))
        if asks_for_exception(item.question):
            return
        self._keys[item.image_id, item.question_type].append(item.key_text)
        for option in item.options:
            if not same_answer(option, item.key_text):
                self._denied_by[_answer(item, option)].add(item.image_id)

    def _false_of(self, item: Item, image: str) -> bool:
        return not any(same_answer(key, item.key_text) for key in self._keys[image, item.question_type])

    def _nearest(self, image: str, able: Sequence[str], rng: Random) -> list[str]:
        if image not in self._looks:
            return []
        among = able if len(able) <= LOOKED_AT else rng.sample(able, LOOKED_AT)
        seen = [other for other in among if other in self._looks]
        if not seen:
            return []
        own = np.asarray(self._looks[image], np.float64)
        apart = np.linalg.norm(np.stack([np.asarray(self._looks[other], np.float64) for other in seen]) - own, axis=1)
        return [seen[place] for place in np.argsort(apart, kind="stable")[:NEAR]]


def asks_for_exception(question: str) -> bool:
    """'Which is not seen?' has a key that is false of the picture: its opposite may be false too."""
    return bool(_EXCEPTS.search(question))


def _answer(item: Item, option: str) -> Answer:
    """What an option claims. A bare 'two' or 'yes' only means something with its question."""
    question = plain(item.question) if _BARE.fullmatch(option.strip()) else ""
    return item.question_type, question, plain(option)
