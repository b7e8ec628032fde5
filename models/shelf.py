"""What has been asked already: finds a question that repeats another one about the same image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from medgr2.models.texts import plain, words
from medgr2.schemas.items import Item

NEAR = 0.8


class Shelf:
    """Items by image and key. Two items with different keys are rivals, not repetitions: scoring tells them apart.

    An image has few items, so similarity is the exact Jaccard index; sketches such as MinHash pay only where
    one text is compared with millions.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._books: dict[tuple[str, str], list[tuple[str, frozenset[str]]]] = defaultdict(list)
        for item in items:
            self.add(item)

    def add(self, item: Item) -> None:
        self._books[item.image_id, plain(item.key_text)].append((item.item_id, _features(item)))

    def twin(self, item: Item) -> str | None:
        """The id of another item that asks the same, or nearly."""
        books = self._books.get((item.image_id, plain(item.key_text)))
        if not books:
            return None
        own_id, own = item.item_id, _features(item)
        for item_id, features in books:
            if item_id != own_id and len(own & features) >= NEAR * len(own | features):
                return item_id
        return None


def _features(item: Item) -> frozenset[str]:
    stem = ("", *words(item.question), "")
    pairs = {f"{a} {b}" for a, b in pairwise(stem)}
    return frozenset(pairs | {f"option {plain(option)}" for option in item.options})
