"""What reading a file gives: clean pictures, and what may be known of them; or a reason why not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


class UnreadableError(Exception):
    """`reason` is a code that ends up in tables and reports; `detail` is for people and never holds patient data."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class RefusedError(UnreadableError):
    """The file is what it says, and it is not wanted: a segmentation, a bomb, an animation."""


class BrokenError(UnreadableError):
    """The file is damaged, or takes too long, or kills its reader."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded picture, before it is made fit: 8-bit L or RGB, upright."""

    image: Image.Image
    part: str = ""
    """Which part of its file it is, for people: '', 'frame 3 of 10', 'slice 12 of 40'."""
    original: bytes | None = None
    """Encoded bytes that show exactly this picture, hold nothing else, and so may be stored as they are."""


@dataclass(slots=True)
class Contents:
    """All that a decoder found in a file. `patient`, `number` (the patient's, without who issued it) and `study` are as
    they stand in the file: they never leave the process that reads it except to be hashed."""

    frames: list[Frame]
    modality: str | None = None
    anatomy: str | None = None
    patient: str = ""
    number: str = ""
    study: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    """What is left of the header after de-identification: fit to be stored."""
    found: Counter[str] = field(default_factory=Counter)
    """Identifiers met and removed, by kind and place ('dicom:PatientName'): counts, never values."""
    risky: bool = False
    """Of a kind that is known to have text burned into its pixels."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A clean picture as it will be stored."""

    data: bytes
    width: int
    height: int
    media_type: str
    part: str
    fingerprint: bytes
    burned_in: str
    """'unchecked', 'none' or 'masked'."""


@dataclass(slots=True)
class Reading:
    """A file, read: at least one picture."""

    pictures: list[Picture]
    left_out: Counter[str] = field(default_factory=Counter)
    """Parts that were not taken, by reason (blank frames, text burned in)."""
    modality: str | None = None
    anatomy: str | None = None
    patient: str = ""
    study: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)
    number: str = ""
    """The patient's number alone, hashed as labels hash it: what binds files with and without issuer or label."""
