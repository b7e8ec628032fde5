"""What a look at a batch without its pictures says: counts, and the words of options that give the key away."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Probed(StrEnum):
    PASSES = "passes"
    LEAKS = "leaks"
    TOO_FEW = "too_few"


class Cue(BaseModel):
    """Something about an option that tells whether it is the key."""

    model_config = ConfigDict(frozen=True)

    told: str
    """Made of a fixed phrase and, at most, words of options that stand below many different images."""
    weight: float
    """In the rule that was learned, as a log-odds: above zero it speaks for the option."""
    shown: int
    """Options with it."""
    keyed: int
    expected: float
    """So many of them would be the key by chance."""

    def line(self) -> str:
        return f"{self.told}: the key {self.keyed} of {self.shown} times, by chance {self.expected:.0f}"


class BlindProbe(BaseModel):
    """The best that a rule did on questions about pictures it had not learned from, and never saw."""

    model_config = ConfigDict(frozen=True)

    verdict: Probed
    items: int
    images: int
    accuracy: float | None = None
    """None when there is nothing to learn from."""
    chance: float | None = None
    """Mean of 1 / number of options."""
    limit: float | None = None
    """An accuracy above this one is a leak."""
    cues: tuple[Cue, ...] = ()
    """The strongest first; told only for a batch that leaks."""

    def line(self) -> str:
        """Counts alone: safe for a log."""
        if self.accuracy is None or self.chance is None or self.limit is None:
            return f"blind probe: {self.items} items about {self.images} images are too few to learn a rule from"
        told = (
            f"blind probe: {self.accuracy:.3f} without the picture, chance {self.chance:.3f}, limit {self.limit:.3f}, "
            f"on {self.items} items"
        )
        if self.verdict is Probed.TOO_FEW:
            return f"{told}: too few to see a leak that is smaller than that"
        if self.verdict is Probed.LEAKS:
            return f"{told}: the options give their key away"
        return told

    def lines(self) -> tuple[str, ...]:
        """With the words that give it away, for a person."""
        return (self.line(), *(f"  {cue.line()}" for cue in self.cues))
