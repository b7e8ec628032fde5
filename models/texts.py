"""How short medical texts are compared: by words, without case, punctuation or width."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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


def shingles(*passages: str) -> NDArray[np.uint32]:
    """Hashes of every three words in a row, sorted and distinct. A passage of fewer words is one; none spans two
    passages, so the order of options does not matter."""
    first: list[int] = []
    second: list[int] = []
    third: list[int] = []
    for passage in passages:
        said = [_word_hash(word) for word in words(passage)]
        if said:
            said += [0] * (3 - len(said))
            first += said[:-2]
            second += said[1:-1]
            third += said[2:]
    mixed = np.zeros(len(first), np.uint64)
    for row in (first, second, third):
        mixed = (mixed ^ np.array(row, np.uint64)) * _ODD
        mixed ^= mixed >> _HALF
    found = (mixed >> _HALF).astype(np.uint32)
    found.sort()
    return found[np.flatnonzero(np.append(True, found[1:] != found[:-1]))] if len(found) else found


_ODD, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)


@lru_cache(maxsize=65536)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
