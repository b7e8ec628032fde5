"""Label rings: some of many labels for an image, by hash, so that one label more or less moves few others.

Every ring holds all labels in an order of its own. An image begins somewhere on each and takes the first label that
fits: the same whatever else is asked about, spread over all labels, and found without looking at every one of them.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Container, Mapping, Set

from medgr2.models.texts import plain

Span = tuple[int, int]
"""From when until when something was told, in microseconds."""
STILL = 1 << 62
RINGS = 8
_BYTES = 4


class LabelRings:
    def __init__(self, known: Mapping[str, Set[Span]]) -> None:
        """Each label with the times in which it was told."""
        self._told: dict[str, list[tuple[str, Set[Span]]]] = defaultdict(list)
        for label in sorted(known, reverse=True):
            self._told[plain(label)].append((label, known[label]))
        placed = {name: _places(name) for name in self._told}
        self._rings = [sorted((places[ring], name) for name, places in placed.items()) for ring in range(RINGS)]

    def take(self, image: str, then: int, without: Container[str]) -> tuple[str, ...]:
        """At most one label from each ring: one that was told then, and is none of `without` (plain words)."""
        taken: dict[str, str] = {}
        for ring, place in zip(self._rings, _places(image), strict=True):
            start = bisect_left(ring, (place, ""))
            for step in range(len(ring)):
                name = ring[(start + step) % len(ring)][1]
                if name not in taken and name not in without and (label := self._then(name, then)) is not None:
                    taken[name] = label
                    break
            else:
                break  # this ring was searched all around: no other has more
        return tuple(taken.values())

    def _then(self, name: str, then: int) -> str | None:
        """As it was written at that time; of several ways always the same."""
        return next((label for label, spans in self._told[name] if any(a <= then < b for a, b in spans)), None)


def _places(text: str) -> list[int]:
    digest = hashlib.sha256(text.encode()).digest()
    return [int.from_bytes(digest[ring * _BYTES : (ring + 1) * _BYTES]) for ring in range(RINGS)]
