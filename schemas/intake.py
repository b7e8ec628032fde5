"""What may come in, and how it is made fit: the rules of reading. They are part of every ingest cell's key."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medgr2.schemas.vocabulary import Split

BurnedIn = Literal["mask", "quarantine", "off"]
Reports = Literal["scrub", "drop", "keep"]


class ReadingRules(BaseModel):
    """Limits of one file, and what is done with what it holds. Any change makes every file new."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=256 << 20, ge=1, description="Larger files are rejected unread.")
    max_pixels: int = Field(default=64_000_000, ge=1, description="Larger pictures are rejected undecoded.")
    min_side: int = Field(default=16, ge=1, description="Pictures with a shorter side are rejected.")
    seconds: float = Field(default=60, gt=0, description="Longest time to decode one file.")
    memory_mb: int = Field(default=4096, ge=256, description="Memory of the decoding process.")
    frames: int = Field(
        default=3, ge=1, description="At most so many frames of a film or slices of a volume, evenly spaced."
    )
    burned_in: BurnedIn = Field(default="mask", description="What is done with text burned into a picture.")
    burned_in_everywhere: bool = Field(
        default=False,
        description="Look for burned-in text in every picture, not only in DICOM kinds known to carry it.",
    )


class Shares(BaseModel):
    """How many of the pictures without a split of their own go where; the rest is for training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: float = Field(default=0.1, ge=0, le=0.5)
    heldout: float = Field(default=0.1, ge=0, le=0.5)

    def of(self, split: Split) -> float:
        return {Split.VALIDATION: self.validation, Split.HELDOUT: self.heldout}.get(
            split, 1 - self.validation - self.heldout
        )


class IntakeParameters(BaseModel):
    """How a source is taken in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...] = Field(default=(), description="Which of their columns is which of ours: diagnosis=Dx.")
    keep: tuple[str, ...] = Field(default=(), description="Further columns that become labels.")
    layout: str = Field(default="", description="Layout of a public benchmark; empty means a file of labels, or none.")
    reports: Reports = Field(default="scrub", description="What is done with free-text reports.")
    rules: ReadingRules = ReadingRules()
    shares: Shares = Shares()
