"""The outcomes of many cells as a mapping: who stands how is known at once, values are read when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medgr2.infra.journal import Journal
from medgr2.infra.journal_index import NEVER
from medgr2.infra.journal_segment import FAILED, key_words, value_text
from medgr2.schemas.cells import Outcome
from medgr2.schemas.digest import canonical_json, sha256_hex
from medgr2.schemas.errors import DataError

CHUNK = 32_768
"""Values that are in memory at once. Neighbours were mostly finished, and lie in the journal, side by side."""


class HeldOutcomes(Mapping[str, Outcome]):
    """By key, in the order of the cells; cells that were never done are not in it."""

    def __init__(
        self,
        journal: Journal,
        place: Mapping[str, int],
        verdict: npt.NDArray[np.int8],
        attempt: npt.NDArray[np.int16],
        fresh: Mapping[str, Outcome],
    ) -> None:
        """`place` numbers the keys from 0 on, in their order; `fresh` spares a reading of what was done just now."""
        self._journal = journal
        self._place = place
        self.verdict = verdict
        self.attempt = attempt
        self._fresh = fresh
        self._chunk: tuple[int, dict[str, Outcome]] = (-1, {})

    def __getitem__(self, key: str) -> Outcome:
        place = self._place[key]
        if self.verdict[place] == NEVER:
            raise KeyError(key)
        if (outcome := self._fresh.get(key)) is not None:
            return outcome
        number = place // CHUNK
        if self._chunk[0] != number:
            self._chunk = (number, self._read(number))
        return self._chunk[1][key]

    def __contains__(self, key: object) -> bool:
        place = self._place.get(key) if isinstance(key, str) else None
        return place is not None and bool(self.verdict[place] != NEVER)

    def __iter__(self) -> Iterator[str]:
        return (key for key, verdict in zip(self._place, self.verdict.tolist(), strict=True) if verdict != NEVER)

    def __len__(self) -> int:
        return int(np.count_nonzero(self.verdict != NEVER))

    @property
    def digest(self) -> str:
        """Of what came of the cells, whatever the order, the attempts and the price: runs that agree share it."""
        whole = 0
        for key, outcome in self.items():
            value = None if outcome.value is None else value_text(outcome.value)
            row = canonical_json([key, outcome.verdict.value, value, outcome.reasons])
            whole = (whole + int.from_bytes(hashlib.sha256(row).digest())) % 2**256
        return f"{whole:064x}"

    @property
    def state(self) -> str:
        """Names what stands, without its values."""
        done = list(self)
        words = key_words(done)
        order = np.lexsort(words.T[::-1])
        there = self.verdict != NEVER
        verdict, attempt = self.verdict[there][order], self.attempt[there][order]
        tries = np.where(verdict == FAILED, attempt, 0)
        return sha256_hex(words[order].tobytes() + verdict.tobytes() + tries.astype(np.int16).tobytes())

    def _read(self, number: int) -> dict[str, Outcome]:
        keys = _slice(list(self._place), number)
        there = (self.verdict[number * CHUNK : number * CHUNK + len(keys)] != NEVER).tolist()
        wanted = [key for key, is_there in zip(keys, there, strict=True) if is_there and key not in self._fresh]
        found = self._journal.outcomes(wanted)
        if len(found) < len(wanted):
            raise DataError(
                f"{len(wanted) - len(found)} finished cells of {self._journal.stage} cannot be read any more",
                where=f"{self._journal.store.uri}/{self._journal.prefix}",
                kept="every other cell",
                next_command="the same command again: it does them anew",
            )
        return found


def _slice(keys: Sequence[str], number: int) -> Sequence[str]:
    return keys[number * CHUNK : (number + 1) * CHUNK]
