"""What has been asked already: finds a question that repeats another one about the same image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise

from medgr2.models.texts import plain, words
from medgr2.schemas.items import Item

NEAR = 0.8
_ID, _HASH = 32, 8


class Shelf:
    """Items by image and key. Two items with different keys are rivals, not repetitions: scoring tells them apart.

    An image has few items, so similarity is the exact Jaccard index. About 400 bytes an item: hashes in place of words.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._books: dict[bytes, bytes | list[bytes]] = {}
        """By image and key, the id and the features of each item; most have one."""
        for item in items:
            self.add(item)

    def add(self, item: Item) -> None:
        place, book = _place(item.image_id, item), bytes.fromhex(item.item_id) + b"".join(sorted(_features(item)))
        held = self._books.get(place)
        if held is None:
            self._books[place] = book
        elif isinstance(held, list):
            held.append(book)
        else:
            self._books[place] = [held, book]

    def twin(self, item: Item, images: Sequence[str] = ()) -> str | None:
        """The id of another item that asks the same, or nearly, about the image or one of `images`."""
        own_id, own = bytes.fromhex(item.item_id), _features(item)
        for image in images or (item.image_id,):
            held = self._books.get(_place(image, item), [])
            for book in held if isinstance(held, list) else (held,):
                features = {book[at : at + _HASH] for at in range(_ID, len(book), _HASH)}
                if book[:_ID] != own_id and len(own & features) >= NEAR * len(own | features):
                    return book[:_ID].hex()
        return None


def _place(image_id: str, item: Item) -> bytes:
    return _hash(f"{image_id} {plain(item.key_text)}", 16)


def _features(item: Item) -> frozenset[bytes]:
    stem = ("", *words(item.question), "")
    pairs = {f"{a} {b}" for a, b in pairwise(stem)}
    return frozenset(_hash(one, _HASH) for one in pairs | {f"option {plain(option)}" for option in item.options})


def _hash(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=size).digest()
