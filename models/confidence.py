"""Confidence: how sure a model was of the letter that it chose, and whether it may be believed."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

DIGITS = 6
"""So far a chance is the same whatever shared its batch."""


def letter_chance(words: Sequence[tuple[str, float]], letter: str) -> float | None:
    """The chance of the word that holds the letter, given the picture, the question and the model's own thoughts before
    it. None where the words do not tell."""
    text = "".join(word for word, _ in words)
    mark = f"<answer>{letter}</answer>"
    if (begin := text.rfind(mark)) < 0:
        return None
    at, end = begin + mark.index(f">{letter}<") + 1, 0
    for word, chance in words:
        end += len(word)
        if end > at:
            return round(exp(chance), DIGITS)
    return None
