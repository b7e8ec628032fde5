"""Splits: each group of pictures goes to train, validation or heldout as a whole, and stays there for ever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt

from medgr2.schemas.intake import Shares
from medgr2.schemas.vocabulary import Split

Stratum = tuple[str, ...]
"""From coarse to fine: (modality, label). Shares are kept at every level of it."""


class Assigner:
    """Gives every new group the split that its strata lack most, counting what is held already."""

    OPEN = (Split.TRAIN, Split.VALIDATION, Split.HELDOUT)

    def __init__(self, shares: Shares, held: Iterable[tuple[Stratum, str, int]]) -> None:
        self._shares = {split: shares.of(split) for split in self.OPEN}
        self._counts: dict[Stratum, dict[Split, int]] = defaultdict(lambda: dict.fromkeys(self.OPEN, 0))
        for stratum, split, count in held:
            if split in self._shares:
                self._count(stratum, Split(split), count)

    def assign(self, groups: Mapping[str, Sequence[Stratum]]) -> dict[str, Split]:
        """`groups`: a stable name of each group and the strata of its pictures. The names decide the order: as they
        are keyed hashes, nobody can choose where a picture goes, and the same groups always go the same way."""
        found: dict[str, Split] = {}
        for name in sorted(groups):
            split = self._most_wanted(groups[name])
            found[name] = split
            for stratum in groups[name]:
                self._count(stratum, split, 1)
        return found

    def _most_wanted(self, strata: Sequence[Stratum]) -> Split:
        lacking = dict.fromkeys(self.OPEN, 0.0)
        # In order: sums of floats taken in another order may differ, and so would the splits of two processes.
        for level in sorted({stratum[:depth] for stratum in strata for depth in range(len(stratum) + 1)}):
            counts = self._counts[level]
            total = sum(counts.values()) + len(strata)
            for split in self.OPEN:
                # Against the root of the stratum's own size, as chance would stray: a rare finding is not drowned by
                # all pictures together, and a thousand findings of one picture each do not all go to train.
                lacking[split] += (self._shares[split] * total - counts[split]) / sqrt(total)
        return max(self.OPEN, key=lambda split: lacking[split] if self._shares[split] else float("-inf"))

    def _count(self, stratum: Stratum, split: Split, count: int) -> None:
        for depth in range(len(stratum) + 1):
            self._counts[stratum[:depth]][split] += count
