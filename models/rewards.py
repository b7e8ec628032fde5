"""Rewards of the policy: what one reply to one prompt is worth. Pure arithmetic over the strict parser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medgr2.models.answer_forms import parse_answer, well_formed
from medgr2.schemas.errors import DataError
from medgr2.schemas.vocabulary import AnswerStyle

Preset = Literal["default", "paper", "med-r1"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A reply and what it is judged by."""

    text: str
    tokens: int
    key: str
    options: int
    quality: float
    """In [0, 1]: p(valid) of the item or, where a reward grades replies, its grade of this one."""
    ended: bool = True
    """Whether the model came to an end by itself, and was not cut off at the longest reply allowed."""


@dataclass(frozen=True, slots=True)
class RewardScheme:
    """`default` puts being right first. The published ones are kept for comparison: `paper` is 0.8 R + 0.2 match, and
    `med-r1` one point for the right letter and one for the form.

    R of the paper is a reward model's grade. Without a grader the calibrated p(valid) of the item takes its place: it
    is the same for every reply to one prompt, so within a group only the match remains to learn from.
    """

    preset: Preset
    longest: int
    """Tokens a reply may have."""
    style: AnswerStyle = "think"

    @property
    def soft_limit(self) -> int:
        """From here on length costs: the last fifth of what is allowed."""
        return self.longest - max(1, self.longest // 5)

    def overlong(self, tokens: int) -> float:
        """0 up to the soft limit, then linearly up to 1 at the longest: a cliff would teach nothing near it."""
        return min(1.0, max(0.0, (tokens - self.soft_limit) / (self.longest - self.soft_limit)))

    def __call__(self, reply: Judged) -> float:
        # A reply that was cut off is no answer, also where the cut fell right behind a letter.
        letter = parse_answer(reply.text, reply.options, self.style) if reply.ended else None
        right = float(letter == reply.key)
        if self.preset == "paper":
            value = 0.8 * reply.quality * reply.ended + 0.2 * right
        elif self.preset == "med-r1":
            value = right + float(reply.ended and well_formed(reply.text, reply.options, self.style))
        else:
            value = right + 0.1 * (letter is not None) + 0.2 * right * reply.quality - self.overlong(reply.tokens)
        if not math.isfinite(value):
            raise DataError(
                f"the reward of a reply is {value}: its item has p(valid) = {reply.quality}",
                kept="no step was taken on it",
                next_command="score the items again: an unscored item can not be trained on",
            )
        return value
