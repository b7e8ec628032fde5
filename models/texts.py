"""How short medical texts are compared: by words, without case, punctuation or width."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

# A dot or comma inside a number, a sign before one, and comparison signs carry meaning; other punctuation does not.
_WORD = re.compile(r"(?<![\w.])-\d+(?:[.,]\d+)*|\d+(?:[.,]\d+)+|\w+\+?|[<>=+±≤≥%]")


@lru_cache(maxsize=65536)
def words(text: str) -> tuple[str, ...]:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("_", " ").replace("\u2212", "-")
    return tuple(_WORD.findall(folded))


def plain(text: str) -> str:
    return " ".join(words(text))


def named(text: str, phrases: Sequence[str]) -> set[int]:
    """Which phrases the text names as whole words. What is part of a longer phrase that is named does not count."""
    said = list(words(text))
    found: set[int] = set()
    order = sorted(range(len(phrases)), key=lambda i: -len(words(phrases[i])))
    for index in order:
        wanted = words(phrases[index])
        start = 0
        while wanted and start <= len(said) - len(wanted):
            if tuple(said[start : start + len(wanted)]) == wanted:
                found.add(index)
                said[start : start + len(wanted)] = ["\0"] * len(wanted)
            start += 1
    return found
