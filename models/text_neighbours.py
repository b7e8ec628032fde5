"""Texts that repeat a long and specific text, whatever image they speak of, among millions of others.

A question like "Which modality is this image?" is asked of every image and repeats nothing. So what is common does not
count: three words in a row that the held texts use about more than FEW images are a template's. A text with too few
others is like nothing. What is left is sketched by MinHash; whatever shares a band of the sketch is compared exactly,
so a sketch can miss a twin and cannot make one.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgr2.models.shelf import Shelf
from medgr2.models.texts import plain, shingles
from medgr2.schemas.items import Item

Numbers = NDArray[np.uint32]
FEW = 3
LEAST_OF_A_PART, LEAST_OF_THE_WHOLE = 15, 24
"""Uncommon shingles of a text that can be a repetition. 15 are a question of 13 words beside four options of one; the
embedded world's longest rationale has 13, its longest item 21."""
ALIKE = 0.7
"""Exact Jaccard index. One word that is changed costs three shingles: of 40 that leaves .86, two words .74."""
BANDS, DEPTH = 20, 4
"""Two texts of a Jaccard index of .7 share a band with p = .996, of .8 with p = .9999, of .1 with p = .002."""
SEED = 1
_PARTS = 16


class Text(NamedTuple):
    item_id: str
    image_id: str
    key: str
    """Texts with different keys are rivals, not repetitions."""
    shingles: Numbers
    least: int


def as_a_whole(item: Item) -> Iterator[Text]:
    """Question, options and rationale as one: what a repetition of another night's item repeats."""
    every = shingles(item.question, *item.options, item.rationale)
    yield Text(item.item_id, item.image_id, plain(item.key_text), every, LEAST_OF_THE_WHOLE)


def asked_and_told(item: Item) -> Iterator[Text]:
    """Each for itself, whatever the key: the questions of benchmarks come without a rationale."""
    item_id = item.item_id
    yield Text(item_id, item.image_id, "", shingles(item.question, *item.options), LEAST_OF_A_PART)
    yield Text(item_id, item.image_id, "", shingles(item.rationale), LEAST_OF_A_PART)


def shelve(items: Iterable[Item], texts: Callable[[Item], Iterator[Text]]) -> tuple[Shelf, TextNeighbours]:
    """Both ways to be found again. Each item is read once and not kept: a million of them need not be in memory."""
    shelf = Shelf()

    def filed() -> Iterator[Text]:
        for item in items:
            shelf.add(item)
            yield from texts(item)

    return shelf, TextNeighbours(filed())


class TextNeighbours:
    """About 700 bytes a text of 60 shingles. Built at once: what is common is counted over all of it."""

    def __init__(self, texts: Iterable[Text] = (), *, like: TextNeighbours | None = None, shown: bool = True) -> None:
        """`like`: takes from it what is common, in place of counting. `shown`: else each text counts once `show`n."""
        self._ids, self._keys, images = bytearray(), array("Q"), array("Q")
        words, ends, least = array("I"), array("q", [0]), bytearray()
        for text in texts:
            self._ids += bytes.fromhex(text.item_id)
            self._keys.append(_number(text.key))
            images.append(int(text.image_id[:16], 16))
            words.frombytes(text.shingles.tobytes())
            ends.append(len(words))
            least.append(text.least)
        self._words = np.frombuffer(words, np.uint32) if words else np.zeros(0, np.uint32)
        self._ends = np.array(ends, np.int64)
        self.common: Numbers = like.common if like is not None else self._count(np.array(images, np.uint64))
        self._shown = np.full(len(self._keys), shown)
        self._index(least)

    def __len__(self) -> int:
        return len(self._keys)

    def show(self, number: int) -> None:
        self._shown[number] = True

    def twin(self, text: Text) -> str | None:
        """The id of another item with nearly the same text and the same key."""
        own = self._specific(text.shingles)
        if not len(self._rows) or len(own) < text.least:
            return None
        own_id, key = bytes.fromhex(text.item_id), _number(text.key)
        looked: set[int] = set()
        for band, value in enumerate(_bands(own)):
            start = int(np.searchsorted(self._values[band], value))
            stop = int(np.searchsorted(self._values[band], value, side="right"))
            rows = self._rows[self._order[band][start:stop]]
            for row in rows[self._shown[rows]].tolist():
                found = bytes(self._ids[32 * row : 32 * row + 32])
                if row not in looked and found != own_id and self._keys[row] == key:
                    looked.add(row)
                    if jaccard(own, self._text(row)) >= ALIKE:
                        return found.hex()
        return None

    def _count(self, images: NDArray[np.uint64]) -> Numbers:
        """What is used about more than FEW images, by parts of the range of shingles: all at once would take four
        times the memory."""
        _, number = np.unique(images, return_inverse=True)
        about = np.repeat(number.astype(np.uint32), np.diff(self._ends))
        part_of = (self._words >> np.uint32(28)).astype(np.uint8)
        common: list[Numbers] = []
        for part in range(_PARTS):
            here = part_of == part
            pairs = self._words[here].astype(np.uint64) << np.uint64(32) | about[here]
            pairs.sort()
            first = pairs[np.flatnonzero(np.diff(pairs, prepend=pairs[:1] ^ np.uint64(1)))] >> np.uint64(32)
            values, counts = np.unique(first, return_counts=True)
            common.append(values[counts > FEW].astype(np.uint32))
        return np.concatenate(common)

    def _index(self, least: bytearray) -> None:
        """Strip what is common, in place, and file the bands of what is specific enough."""
        rows, bands, end = array("I"), array("I"), 0
        for row in range(len(self)):
            own = self._specific(self._text(row))
            self._ends[row] = end  # the start of a row is not needed once it is read
            if len(own) >= least[row]:
                rows.append(row)
                bands.frombytes(_bands(own).tobytes())
                self._words[end : end + len(own)] = own
                end += len(own)
        self._ends[-1] = end
        self._words = self._words[:end].copy()
        self._rows = np.array(rows, np.uint32)
        values = np.array(bands, np.uint32).reshape(-1, BANDS).T
        self._order = [np.argsort(one, kind="stable").astype(np.uint32) for one in values]
        self._values = [one[order] for one, order in zip(values, self._order, strict=True)]

    def _text(self, row: int) -> Numbers:
        return self._words[self._ends[row] : self._ends[row + 1]]

    def _specific(self, words: Numbers) -> Numbers:
        if not len(self.common):
            return words
        at = np.minimum(np.searchsorted(self.common, words), len(self.common) - 1)
        return words[self.common[at] != words]


def jaccard(a: Numbers, b: Numbers) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


_blank: list[Any] = []


def _bands(words: Numbers) -> Numbers:
    if not _blank:
        from datasketch import MinHash

        # The shingles are hashes already.
        _blank.append(MinHash(num_perm=BANDS * DEPTH, seed=SEED, hashfunc=int, scheme="affine32"))
    sketch = _blank[0].copy()
    sketch.update_batch(words.tolist())
    # Each band's four numbers become one: odd multipliers, and the high half, in which all bits had their say.
    folded = sketch.hashvalues.astype(np.uint64).reshape(BANDS, DEPTH)
    mixed = np.zeros(BANDS, np.uint64)
    for place in range(DEPTH):
        mixed = (mixed ^ folded[:, place]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    return (mixed >> np.uint64(32)).astype(np.uint32)
