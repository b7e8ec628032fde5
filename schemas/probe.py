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


class Thinned(BaseModel):
    """A batch that gave its keys away, without the items that the rule goes by."""

    model_config = ConfigDict(frozen=True)

    dropped: int
    whole: float
    """What the rule told of the whole batch."""
    taught: float
    """What a rule that learns from thinned items tells of items about other images, of which none were dropped."""

    def line(self) -> str:
        return (
            f"thinned: {self.whole:.3f} of the whole batch was told without the picture, so {self.dropped} items that "
            f"gave their key away are left out; what the others teach tells {self.taught:.3f} of whole items"
        )


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
    """The strongest first; told only for a batch that leaks, or did before it was thinned."""
    thinned: Thinned | None = None
    """Where the batch passes because some of it was left out."""

    def line(self) -> str:
        """Counts alone: safe for a log."""
        if self.accuracy is None or self.chance is None or self.limit is None:
            return f"blind probe: {self.items} items about {self.images} images are too few to learn a rule from"
        told = (
            f"blind probe: {self.accuracy:.3f} without the picture, chance {self.chance:.3f}, limit {self.limit:.3f}, "
            f"on {self.items} items"
        )
        if self.verdict is Probed.TOO_FEW:
            told += ": too few to see a leak that is smaller than that"
        elif self.verdict is Probed.LEAKS:
            told += ": the options give their key away"
        return f"{told}\n{self.thinned.line()}" if self.thinned else told

    def lines(self) -> tuple[str, ...]:
        """With the words that give it away, for a person."""
        return (self.line(), *(f"  {cue.line()}" for cue in self.cues))
