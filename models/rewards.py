"""Rewards of the policy: what one reply to one prompt is worth. Pure arithmetic over the strict parser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medgr2.models.prompts import parse_answer
from medgr2.schemas.errors import DataError

Preset = Literal["default", "paper"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A reply and what it is judged by."""

    text: str
    tokens: int
    key: str
    options: int
    quality: float
    """p(valid) of the item, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class RewardScheme:
    """`default` puts being right first. `paper` is the published mixture 0.8 R + 0.2 match, kept for comparison.

    R of the paper is a reward model's grade; here the calibrated p(valid) of the item takes its place. It is the
    same for every reply to one prompt, so within a group only the match remains to learn from.
    """

    preset: Preset
    longest: int
    """Tokens a reply may have."""

    @property
    def soft_limit(self) -> int:
        """From here on length costs: the last fifth of what is allowed."""
        return self.longest - max(1, self.longest // 5)

    def overlong(self, tokens: int) -> float:
        """0 up to the soft limit, then linearly up to 1 at the longest: a cliff would teach nothing near it."""
        return min(1.0, max(0.0, (tokens - self.soft_limit) / (self.longest - self.soft_limit)))

    def __call__(self, reply: Judged) -> float:
        letter = parse_answer(reply.text, reply.options)
        right = float(letter == reply.key)
        if self.preset == "paper":
            value = 0.8 * reply.quality + 0.2 * right
        else:
            value = right + 0.1 * (letter is not None) + 0.2 * right * reply.quality - self.overlong(reply.tokens)
        if not math.isfinite(value):
            raise DataError(
                f"the reward of a reply is {value}: its item has p(valid) = {reply.quality}",
                kept="no step was taken on it",
                next_command="score the items again: an unscored item can not be trained on",
            )
        return value
