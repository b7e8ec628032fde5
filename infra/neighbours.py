"""Which pictures show the same, among very many: every pair is looked at, nothing is left to chance.

Three sieves, each finer and dearer: the correlation of the low frequencies of local contrast (all pairs, as matrix
products over all eight turns), a cheap look at the small copies, and their agreement once aligned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from medgr2.infra.likeness import LIMIT, TURNS, Numbers, Turn, agree, inverse, local_contrast, may_agree, turned
from medgr2.infra.pictures.fingerprint import SIDE, unpack

SAME_PICTURE = 0.88
"""Agreement from which two pictures count as one. Measured by benchmarks/near_duplicates.py."""
_COARSE, _CHEAP = 0.60, 0.62
_CHUNK, _BLOCK, _PAIRS = 4096, 128, 512
_GREY = np.float32(127 / LIMIT)
_HIGHEST = 12


def _frequencies() -> tuple[Numbers, NDArray[np.intp], NDArray[np.intp], Numbers]:
    """Cosines, the (row, column) frequencies that are kept, and their weights; even columns come first."""
    k = np.arange(_HIGHEST + 1)
    cosines = np.cos(np.pi * (np.arange(SIDE) + 0.5) * k[:, None] / SIDE).astype(np.float32)
    radius = np.hypot(k[:, None], k)
    rows, columns = np.nonzero((radius <= _HIGHEST) & (radius >= 2.5))
    order = np.argsort(columns % 2, kind="stable")
    rows, columns = rows[order], columns[order]
    weights = np.sqrt(radius[rows, columns]) / np.sqrt(np.where(rows == 0, 2, 1) * np.where(columns == 0, 2, 1))
    return cosines, rows, columns, weights.astype(np.float32)


_COSINES, _ROWS, _COLUMNS, _WEIGHTS = _frequencies()
_EVEN = int(np.count_nonzero(_COLUMNS % 2 == 0))
_EXCHANGED = np.argmax((_ROWS[:, None] == _COLUMNS) & (_COLUMNS[:, None] == _ROWS), axis=1)
_INVERSE = np.array([inverse(turn) for turn in range(len(TURNS))])
_ROW_SIGN = (1 - 2 * (_ROWS % 2)).astype(np.float32)
_COLUMN_SIGN = (1 - 2 * (_COLUMNS % 2)).astype(np.float32)


Kind = TypeVar("Kind", bound=np.generic)


class Match(NamedTuple):
    """Two pictures that show the same, by the order in which they were added; first < second."""

    first: int
    second: int
    turn: Turn
    """What must be done to the second to see the first."""
    similarity: float


@dataclass(slots=True)
class _Chunk:
    copies: NDArray[np.int8]
    low: NDArray[np.float16]
    keys: NDArray[np.uint64]
    """By them the two pictures of a pair are put in one order, whichever came first."""


def _digest(fingerprints: Sequence[bytes]) -> _Chunk:
    pixels, flat = unpack(fingerprints)
    contrast = local_contrast(pixels)
    contrast[flat] = 0
    low = (_COSINES @ contrast @ _COSINES.T)[:, _ROWS, _COLUMNS] * _WEIGHTS
    low /= np.maximum(np.linalg.norm(low, axis=1, keepdims=True), 1e-3)
    keys = [int.from_bytes(hashlib.blake2b(one, digest_size=8).digest(), "little") for one in fingerprints]
    return _Chunk(np.rint(contrast * _GREY).astype(np.int8), low.astype(np.float16), np.array(keys, np.uint64))


def _turned_low(low: Numbers) -> Numbers:
    """(turns, pictures, frequencies): turning a picture exchanges its frequencies, or changes their signs."""
    every = []
    for turn in range(len(TURNS)):
        one = low[:, _EXCHANGED] if turn & 1 else low
        one = one * _ROW_SIGN if turn & 2 else one
        every.append(one * _COLUMN_SIGN if turn & 4 else one)
    return np.stack(every)


def _gather(chunks: Sequence[NDArray[Kind]], numbers: NDArray[np.intp]) -> NDArray[Kind]:
    which, place = np.divmod(numbers, _CHUNK)
    rows = np.empty((len(numbers), *chunks[0].shape[1:]), chunks[0].dtype)
    for chunk in np.unique(which):
        here = which == chunk
        rows[here] = chunks[chunk][place[here]]
    return rows


class Neighbours:
    """Grows by `add`; about 1.3 kB a picture."""

    def __init__(self, fingerprints: Sequence[bytes] = (), least: float = SAME_PICTURE) -> None:
        self._chunks: list[_Chunk] = []
        self._count = 0
        self._least = least
        self.add(fingerprints)

    def __len__(self) -> int:
        return self._count

    def add(self, fingerprints: Sequence[bytes]) -> None:
        """They are numbered on from those already held."""
        rest = list(fingerprints)
        while rest:
            last = self._chunks[-1] if self._chunks else None
            room = _CHUNK - len(last.keys) if last else 0
            taken = _digest(rest[: room or _CHUNK])
            if last and room:
                for name in ("copies", "low", "keys"):
                    setattr(last, name, np.concatenate([getattr(last, name), getattr(taken, name)]))
            else:
                self._chunks.append(taken)
            self._count += len(taken.keys)
            rest = rest[len(taken.keys) :]

    def pairs(self, first_new: int = 0) -> Iterator[Match]:
        """Every pair of which the second is `first_new` or later, by its second, then its first."""
        for start in range(first_new, self._count, _BLOCK):
            matches: dict[tuple[int, int], Match] = {}
            for news, olds, turns in self._candidates(start, min(start + _BLOCK, self._count)):
                for match in self._verified(news, olds, turns):
                    known = matches.get((match.second, match.first))
                    if known is None or match.similarity > known.similarity:
                        matches[match.second, match.first] = match
            for place in sorted(matches):
                yield matches[place]

    def _candidates(self, start: int, stop: int) -> Iterator[tuple[NDArray[np.intp], ...]]:
        """(new, old, turn of the new) whose low frequencies correlate."""
        low = _gather([chunk.low for chunk in self._chunks], np.arange(start, stop))
        queries = _turned_low(low.astype(np.float32))
        for number, chunk in enumerate(self._chunks):
            offset = number * _CHUNK
            if offset >= stop:
                return
            held = chunk.low[: stop - offset].astype(np.float32)
            even, odd = held[:, :_EVEN].T, held[:, _EVEN:].T
            best = np.full((stop - start, len(held)), -1, np.float32)
            for turn in (0, 1, 2, 3):  # and, by the sign of the odd columns, 4 more than each
                straight = queries[turn][:, :_EVEN] @ even
                swayed = queries[turn][:, _EVEN:] @ odd
                np.abs(swayed, out=swayed)
                straight += swayed
                np.maximum(best, straight, out=best)
            found = np.flatnonzero(best.ravel() >= _COARSE)
            if not len(found):
                continue
            new, old = np.divmod(found, held.shape[0])
            earlier = old + offset < new + start
            new, old = new[earlier], old[earlier]
            for at in range(0, len(new), 8 * _PAIRS):
                some, others = new[at : at + 8 * _PAIRS], old[at : at + 8 * _PAIRS]
                scores = np.einsum("kmd,md->mk", queries[:, some], held[others], optimize=True)
                which, turns = np.nonzero(scores >= _COARSE)
                yield some[which] + start, others[which] + offset, turns

    def _verified(self, news: NDArray[np.intp], olds: NDArray[np.intp], turns: NDArray[np.intp]) -> Iterator[Match]:
        copies, keys = [chunk.copies for chunk in self._chunks], [chunk.keys for chunk in self._chunks]
        for at in range(0, len(news), _PAIRS):
            new, old, turn = news[at : at + _PAIRS], olds[at : at + _PAIRS], turns[at : at + _PAIRS]
            stays, moves = _gather(copies, old), _gather(copies, new)
            # The one with the smaller key stays as it is and the other turns, whichever of them is the new one.
            swap = _gather(keys, new) < _gather(keys, old)
            stays[swap], moves[swap] = moves[swap], stays[swap]
            ways = np.where(swap, _INVERSE[turn], turn)
            for way in np.unique(ways):
                here = ways == way
                moves[here] = turned(moves[here], int(way))
            a, b = stays.astype(np.float32) / _GREY, moves.astype(np.float32) / _GREY
            likely = np.flatnonzero(may_agree(a, b) >= _CHEAP)
            if not len(likely):
                continue
            for place, similarity in zip(likely, agree(a[likely], b[likely]), strict=True):
                if similarity >= self._least:
                    yield Match(int(old[place]), int(new[place]), TURNS[turn[place]], round(float(similarity), 4))
