"""Which frames of a film and which slices of a volume become pictures."""

from __future__ import annotations


def evenly(count: int, wanted: int) -> list[int]:
    """The middles of `wanted` equal parts: never the first and last frame of a long film, which show the least."""
    if count <= wanted:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def within_the_middle(count: int, wanted: int) -> list[int]:
    """Evenly, within the middle 80%: the ends of a volume are mostly air."""
    skipped = count // 10
    return [skipped + index for index in evenly(count - 2 * skipped, wanted)]
