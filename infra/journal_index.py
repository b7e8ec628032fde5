"""Which cells are finished: a sorted view over the key columns of all segments, without values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medgr2.infra.journal_segment import FAILED, VERDICTS, IndexColumns, key_words
from medgr2.schemas.vocabulary import Verdict

NEVER = -1


@dataclass(frozen=True, slots=True)
class Standing:
    """What the journal holds of one cell."""

    verdict: Verdict
    attempt: int


class Index:
    """One row a cell. A final outcome beats a failure; of final ones the first written holds, of failures the last
    attempt: so two nights that ran side by side, or a merge that was killed, read the same for ever."""

    def __init__(self, segments: Sequence[tuple[str, IndexColumns]]) -> None:
        self.names = [name for name, _ in segments]
        columns = [c for _, c in segments]
        sizes = [len(c.verdict) for c in columns]
        keys = np.concatenate([c.keys for c in columns]) if columns else np.empty((0, 4), np.uint64)
        verdict = np.concatenate([c.verdict for c in columns]) if columns else np.empty(0, np.int8)
        attempt = np.concatenate([c.attempt for c in columns]) if columns else np.empty(0, np.int16)
        stamp = np.concatenate([c.stamp for c in columns]) if columns else np.empty(0, np.int64)
        order = _winners(keys, verdict, attempt, stamp)
        segment = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        starts = np.cumsum([0, *sizes[:-1]], dtype=np.int64) if sizes else np.empty(0, np.int64)
        self._keys, self._verdict, self._attempt = keys[order], verdict[order], attempt[order]
        self._segment = segment[order]
        self._row = order - starts[self._segment] if sizes else order

    def __len__(self) -> int:
        return len(self._verdict)

    def find(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """The position of each key, -1 for a cell that was never done."""
        if not keys or not len(self):
            return np.full(len(keys), -1, np.int64)
        wanted = key_words(keys)
        at = np.searchsorted(self._keys[:, 0], wanted[:, 0])
        found = np.full(len(keys), -1, np.int64)
        pending = np.arange(len(keys))
        while len(pending):
            pending = pending[at[pending] < len(self)]
            here = self._keys[at[pending]]
            hit = (here == wanted[pending]).all(axis=1)
            found[pending[hit]] = at[pending[hit]]
            # Two keys that share their first eight bytes lie next to each other.
            pending = pending[~hit & (here[:, 0] == wanted[pending][:, 0])]
            at[pending] += 1
        return found

    def held(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int16]]:
        """Number of the verdict (NEVER for -1) and attempt at each position."""
        there = positions >= 0
        verdict = np.full(len(positions), NEVER, np.int8)
        attempt = np.zeros(len(positions), np.int16)
        verdict[there] = self._verdict[positions[there]]
        attempt[there] = self._attempt[positions[there]]
        return verdict, attempt

    def standings(self, keys: Sequence[str]) -> dict[str, Standing]:
        at = self.find(keys)
        return {key: self._standing(p) for key, p in zip(keys, at.tolist(), strict=True) if p >= 0}

    def _standing(self, position: int) -> Standing:
        return Standing(VERDICTS[int(self._verdict[position])], int(self._attempt[position]))

    def places(self, positions: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
        """Segment name -> ascending rows, for the values of these positions."""
        segment, row = self._segment[positions], self._row[positions]
        return {self.names[s]: np.sort(row[segment == s]) for s in np.unique(segment).tolist()}

    def all_positions(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self), dtype=np.int64)


def _winners(
    keys: npt.NDArray[np.uint64],
    verdict: npt.NDArray[np.int8],
    attempt: npt.NDArray[np.int16],
    stamp: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Row numbers of the outcome that holds for each cell, in key order."""
    failed = verdict == FAILED
    # For failures: last attempt first, then newest. For final ones: oldest first.
    by_attempt = np.where(failed, -attempt.astype(np.int64), 0)
    by_stamp = np.where(failed, -stamp, stamp)
    order = np.lexsort((by_stamp, by_attempt, failed, keys[:, 3], keys[:, 2], keys[:, 1], keys[:, 0]))
    sorted_keys = keys[order]
    first = np.ones(len(order), bool)
    first[1:] = (sorted_keys[1:] != sorted_keys[:-1]).any(axis=1)
    return order[first]
