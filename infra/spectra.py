"""The low frequencies of small pictures, kept so that all eight turns are compared at the price of three.

Turning a picture changes the signs of some frequencies and exchanges rows with columns. Of (r, c) and (c, r) the sum
and the difference are kept: "level" ones (both even, or both odd) a turn only changes in sign, and a "swayed" one
(even and odd) at most changes places with its partner.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medgr2.infra.likeness import TURNS, Numbers, Pictures
from medgr2.infra.pictures.fingerprint import SIDE

_HIGHEST, _LOWEST = 12, 2.5
_ROWS, _ACROSS = 128, 512
"""So many pictures against so many at once: what is worked on stays in the cache of a core."""


def _basis() -> tuple[Numbers, NDArray[np.intp], tuple[int, int, int]]:
    """Cosines; per kept number (row, column, sign of the partner: 0 where row is column); and how many are level
    sums, level differences, swayed sums (and as many differences). Even ones come before odd ones."""
    k = np.arange(_HIGHEST + 1)
    cosines = np.cos(np.pi * (np.arange(SIDE) + 0.5) * k[:, None] / SIDE).astype(np.float32)
    radius = np.hypot(k[:, None], k)
    first = np.where((k[:, None] + k) % 2 == 0, k[:, None] <= k, k[:, None] % 2 == 0)
    r, c = np.nonzero((radius <= _HIGHEST) & (radius >= _LOWEST) & first)
    order = np.argsort(r % 2, kind="stable")
    r, c = r[order], c[order]
    level, same = (r + c) % 2 == 0, r == c
    parts = [
        np.stack([r[which], c[which], np.where(same[which], 0, sign)])
        for which, sign in ((level, 1), (level & ~same, -1), (~level, 1), (~level, -1))
    ]
    sums, differences, swayed = (part.shape[1] for part in parts[:3])
    return cosines, np.concatenate(parts, axis=1), (sums, sums + differences, sums + differences + swayed)


_COSINES, _KEPT, (_SUMS, _LEVEL, _HALF) = _basis()
WIDTH = _KEPT.shape[1]
_SWAYED = WIDTH - _HALF
_ODD = np.where(_KEPT[0, :_LEVEL] % 2, -1, 1).astype(np.float32)
_SWAPPED = np.r_[_HALF:WIDTH, _LEVEL:_HALF]


def _weights() -> tuple[Numbers, Numbers]:
    radius = np.hypot(_KEPT[0], _KEPT[1])
    weight = np.sqrt(radius) / np.sqrt(np.where(_KEPT[:2] == 0, 2, 1).prod(0) * np.where(_KEPT[2] == 0, 1, 2))
    return weight.astype(np.float32), (weight * _KEPT[2]).astype(np.float32)


_OWN, _PARTNER = _weights()


def _by_turn() -> Numbers:
    """What each turn makes of the products of two spectra (and of the swayed ones with their partners): its signs."""
    signs = np.zeros((WIDTH + 2 * _SWAYED, len(TURNS)), np.float32)
    for turn in range(len(TURNS)):
        transposed, down, across = bool(turn & 1), bool(turn & 2), bool(turn & 4)
        flips = _ODD if down != across else np.ones(_LEVEL, np.float32)
        signs[:_LEVEL, turn] = flips * np.where(np.arange(_LEVEL) < _SUMS, 1, -1 if transposed else 1)
        own, partner = (-1 if across else 1), (-1 if down else 1)  # (even row, odd column) and (odd row, even column)
        swap = -1 if transposed else 1
        straight, crossed = (own + partner) / 2, (own - partner) / 2
        signs[_LEVEL:_HALF, turn], signs[_HALF:WIDTH, turn] = straight, swap * straight
        signs[WIDTH : WIDTH + _SWAYED, turn], signs[WIDTH + _SWAYED :, turn] = swap * crossed, crossed
    return signs


_BY_TURN = _by_turn()


def spectra(contrast: Pictures) -> NDArray[np.float16]:
    """Of local contrast, each of length 1; of a flat picture, nothing."""
    every = _COSINES @ contrast @ _COSINES.T
    row, column, _ = _KEPT
    kept = every[:, row, column] * _OWN + every[:, column, row] * _PARTNER
    kept /= np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-3)
    return kept.astype(np.float16)


def by_turn(new: Numbers, old: Numbers) -> Numbers:
    """(pairs, turns): the correlation of the first of each pair, turned, with the second."""
    products = np.concatenate([new * old, new[:, _SWAPPED] * old[:, _LEVEL:]], axis=1)
    scores: Numbers = products @ _BY_TURN
    return scores


def close(new: Numbers, old: Numbers, least: float) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Places in both of the pairs that correlate in some turn."""
    room = np.empty((0, 0, 0), np.float32)
    for start in range(0, len(new), _ROWS):
        some = new[start : start + _ROWS]
        count = len(some)
        sums, differences = some[:, :_SUMS], some[:, _SUMS:_LEVEL]
        sums = np.concatenate([sums, sums * _ODD[:_SUMS]])  # as they are, and after one flip
        differences = np.concatenate([differences, differences * _ODD[_SUMS:]])
        one, two = some[:, _LEVEL:_HALF], some[:, _HALF:]
        swayed, crossed = np.concatenate([one, two]), np.concatenate([two, one])
        for at in range(0, len(old), _ACROSS):
            others = old[at : at + _ACROSS]
            if room.shape[1:] != (2 * count, len(others)):
                room = np.empty((5, 2 * count, len(others)), np.float32)
            level = np.matmul(sums, others[:, :_SUMS].T, out=room[0])
            changing = np.matmul(differences, others[:, _SUMS:_LEVEL].T, out=room[1])
            aside = np.matmul(swayed, others[:, _LEVEL:_HALF].T, out=room[2])
            across = np.matmul(crossed, others[:, _HALF:].T, out=room[3])
            upright = np.add(aside, across, out=room[4])
            transposed = np.subtract(aside, across, out=aside)
            np.abs(upright, out=upright)  # the better of two turns that differ in both flips
            np.abs(transposed, out=transposed)
            upright += changing
            transposed -= changing
            best = np.maximum(upright, transposed, out=upright)
            best += level
            found = np.flatnonzero(np.maximum(best[:count], best[count:], out=best[:count]) >= least)
            if len(found):
                here, there = np.divmod(found, len(others))
                yield here + start, there + at
