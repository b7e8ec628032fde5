"""What may come in, and how it is made fit: the rules of reading. They are part of every ingest cell's key."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

BurnedIn = Literal["mask", "quarantine", "off"]


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
