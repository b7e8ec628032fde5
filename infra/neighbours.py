"""Which pictures show the same, among very many: every pair is looked at, nothing is left to chance.

Four sieves, each finer or dearer: the correlation of the low frequencies of local contrast (all pairs and all eight
turns, as matrix products), that of higher ones, a cheap look at the small copies, and their agreement once aligned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from medgr2.infra.likeness import LIMIT, TURNS, Pictures, Turn, agree, inverse, local_contrast, may_agree, turned
from medgr2.infra.pictures.fingerprint import unpack
from medgr2.infra.spectra import Band, Spectra

SAME_PICTURE = 0.885
"""Agreement from which two pictures count as one. Measured by benchmarks/near_duplicates.py."""
_COARSE, _FINE, _CHEAP = 0.60, 0.24, 0.62
_LOW, _HIGH = Band(2.5, 12), Band(12, 16)
_CHUNK, _BLOCK, _PAIRS, _AT_ONCE = 4096, 512, 4096, 128
_GREY = np.float32(127 / LIMIT)
_INVERSE = np.array([inverse(turn) for turn in range(len(TURNS))])
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
    low: Spectra
    high: Spectra
    keys: NDArray[np.uint64]
    """By them the two pictures of a pair are put in one order, whichever came first."""


def _digest(fingerprints: Sequence[bytes]) -> _Chunk:
    pixels, flat = unpack(fingerprints)
    contrast = local_contrast(pixels)
    contrast[flat] = 0
    keys = [int.from_bytes(hashlib.blake2b(one, digest_size=8).digest(), "little") for one in fingerprints]
    copies = np.rint(contrast * _GREY).astype(np.int8)
    return _Chunk(copies, _LOW.spectra(contrast), _HIGH.spectra(contrast), np.array(keys, np.uint64))


def _gather(chunks: Sequence[NDArray[Kind]], numbers: NDArray[np.intp]) -> NDArray[Kind]:
    which, place = np.divmod(numbers, _CHUNK)
    rows = np.empty((len(numbers), *chunks[0].shape[1:]), chunks[0].dtype)
    for chunk in np.unique(which):
        here = which == chunk
        rows[here] = chunks[chunk][place[here]]
    return rows


class Neighbours:
    """Grows by `add`; about 1.5 kB a picture."""

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
                for name in ("copies", "low", "high", "keys"):
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
        """(new, old, turn of the new) whose low frequencies correlate, and higher ones after the same turn."""
        every = np.arange(start, stop)
        low, high = (
            _gather(chunks, every).astype(np.float32)
            for chunks in ([chunk.low for chunk in self._chunks], [chunk.high for chunk in self._chunks])
        )
        waiting: list[tuple[NDArray[np.intp], ...]] = []
        for number, chunk in enumerate(self._chunks[: -(-stop // _CHUNK)]):
            offset = number * _CHUNK
            held = chunk.low[: stop - offset].astype(np.float32)
            close = list(_LOW.close(low, held, _COARSE))
            every_new, every_old = _joined(close) if close else (every[:0], every[:0])
            for at in range(0, len(every_new), _PAIRS):
                new, old = every_new[at : at + _PAIRS], every_old[at : at + _PAIRS]
                earlier = old + offset < new + start
                new, old = new[earlier], old[earlier]
                which, turns = np.nonzero(_LOW.by_turn(low[new], held[old]) >= _COARSE)
                new, old = new[which], old[which]
                fine = _HIGH.by_turn(high[new], chunk.high[old].astype(np.float32))
                passing = fine[np.arange(len(turns)), turns] >= _FINE
                waiting.append((new[passing] + start, old[passing] + offset, turns[passing]))
                if sum(len(turns) for _, _, turns in waiting) >= _PAIRS:
                    yield _joined(waiting)
                    waiting = []
        if waiting:
            yield _joined(waiting)

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
            for place in _likely(stays, moves):
                for pair, similarity in zip(place, agree(_grey(stays[place]), _grey(moves[place])), strict=True):
                    if similarity >= self._least:
                        yield Match(int(old[pair]), int(new[pair]), TURNS[turn[pair]], round(float(similarity), 4))


def _joined(parts: Sequence[tuple[NDArray[np.intp], ...]]) -> tuple[NDArray[np.intp], ...]:
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _grey(copies: NDArray[np.int8]) -> Pictures:
    return copies * (1 / _GREY)


def _likely(stays: NDArray[np.int8], moves: NDArray[np.int8]) -> Iterator[NDArray[np.intp]]:
    """Places of the pairs that pass the cheap look, few at a time: they stay in the cache of a core."""
    cheap = [
        may_agree(_grey(stays[at : at + _AT_ONCE]), _grey(moves[at : at + _AT_ONCE]))
        for at in range(0, len(stays), _AT_ONCE)
    ]
    places = np.flatnonzero(np.concatenate(cheap) >= _CHEAP) if cheap else np.zeros(0, np.intp)
    for at in range(0, len(places), _AT_ONCE):
        yield places[at : at + _AT_ONCE]
