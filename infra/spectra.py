"""A band of the frequencies of small pictures, kept so that all eight turns are compared at the price of three.

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

_ROWS, _ACROSS = 128, 256
"""So many pictures against so many at once: what is worked on stays in the cache of a core."""
Spectra = NDArray[np.float16]


class Band:
    """Spectra hold, in this order: level sums, level differences, swayed sums, swayed differences."""

    def __init__(self, lowest: float, highest: float) -> None:
        k = np.arange(int(highest) + 1)
        self._cosines = np.cos(np.pi * (np.arange(SIDE) + 0.5) * k[:, None] / SIDE).astype(np.float32)
        radius = np.hypot(k[:, None], k)
        # Of the two partners the first is the one with the smaller row or, where only one row is even, the even row.
        first = np.where((k[:, None] + k) % 2 == 0, k[:, None] <= k, k[:, None] % 2 == 0)
        row, column = np.nonzero((radius <= highest) & (radius >= lowest) & first)
        level, alone = (row + column) % 2 == 0, row == column
        parts = [(level, 1), (level & ~alone, -1), (~level, 1), (~level, -1)]
        self._row, self._column = (np.concatenate([each[chosen] for chosen, _ in parts]) for each in (row, column))
        sign = np.concatenate([np.where(alone, 0, sign)[chosen] for chosen, sign in parts])
        ends = np.cumsum([np.count_nonzero(chosen) for chosen, _ in parts])
        self._sums, self._level, self._half, self._width = (int(end) for end in ends)
        weight = np.sqrt(np.hypot(self._row, self._column)) / np.sqrt(np.where(sign == 0, 1, 2))
        weight /= np.sqrt(np.where(self._row == 0, 2, 1) * np.where(self._column == 0, 2, 1))
        self._own, self._partner = weight.astype(np.float32), (weight * sign).astype(np.float32)
        self._odd = np.where(self._row[: self._level] % 2, -1, 1).astype(np.float32)
        self._swapped = np.r_[self._half : self._width, self._level : self._half]
        self._by_turn = np.stack([self._signs(turn) for turn in range(len(TURNS))], axis=1)

    def _signs(self, turn: int) -> Numbers:
        """What a turn makes of the products of two spectra, and of those of swayed ones with their partners."""
        transposed, down, across = (-1 if turn & bit else 1 for bit in (1, 2, 4))
        level = self._odd if down != across else np.ones(self._level)
        level = level * np.where(np.arange(self._level) < self._sums, 1, transposed)
        swayed = self._half - self._level
        straight, crossed = (across + down) / 2, (across - down) / 2
        rest = np.repeat([straight, transposed * straight, transposed * crossed, crossed], swayed)
        return np.concatenate([level, rest]).astype(np.float32)

    def spectra(self, contrast: Pictures) -> Spectra:
        """Of local contrast, each of length 1; of a flat picture, nothing."""
        every = self._cosines @ contrast @ self._cosines.T
        kept = every[:, self._row, self._column] * self._own + every[:, self._column, self._row] * self._partner
        kept /= np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-3)
        spectra: Spectra = kept.astype(np.float16)
        return spectra

    def by_turn(self, new: Numbers, old: Numbers) -> Numbers:
        """(pairs, turns): the correlation of the first of each pair, turned, with the second."""
        products = np.concatenate([new * old, new[:, self._swapped] * old[:, self._level :]], axis=1)
        scores: Numbers = products @ self._by_turn
        return scores

    def close(self, new: Numbers, old: Numbers, least: float) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Places in both of the pairs that correlate in some turn."""
        sums_end, level_end, half, room = self._sums, self._level, self._half, np.empty((0, 0, 0), np.float32)
        for start in range(0, len(new), _ROWS):
            some = new[start : start + _ROWS]
            count = len(some)
            sums, differences = some[:, :sums_end], some[:, sums_end:level_end]
            sums = np.concatenate([sums, sums * self._odd[:sums_end]])  # as they are, and after one flip
            differences = np.concatenate([differences, differences * self._odd[sums_end:]])
            one, two = some[:, level_end:half], some[:, half:]
            swayed, crossed = np.concatenate([one, two]), np.concatenate([two, one])
            for at in range(0, len(old), _ACROSS):
                others = old[at : at + _ACROSS]
                if room.shape[1:] != (2 * count, len(others)):
                    room = np.empty((5, 2 * count, len(others)), np.float32)
                level = np.matmul(sums, others[:, :sums_end].T, out=room[0])
                changing = np.matmul(differences, others[:, sums_end:level_end].T, out=room[1])
                aside = np.matmul(swayed, others[:, level_end:half].T, out=room[2])
                across = np.matmul(crossed, others[:, half:].T, out=room[3])
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
