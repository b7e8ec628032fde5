"""DICOM bytes as the tests read them: contents, a reason, or the pixels that are shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from medgr2.infra.pictures.dicom import read_dicom
from medgr2.infra.pictures.reading import Contents, UnreadableError
from medgr2.infra.pseudonyms import Pseudonyms
from medgr2.schemas.intake import ReadingRules

KEY = Pseudonyms(b"0123456789abcdef")

RLE, J2K = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"
JPEG, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
PREFIX, EXPLICIT = b"\0" * 128 + b"DICM", "1.2.840.10008.1.2.1"
IMPLICIT, JPEG_LS, JPEG_LOSSLESS = "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70"
SC, US, CT, OP = (f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("7", "6.1", "2", "77.1.5.1"))

THREES = {
    JPEG_LS: "/9j/9wALCAAIAAgBAREA/9oACAEBAAAAAJV6+0ACMm0mAAlVoe/yz/Kv4o/k38D/2Q==",
    JPEG_LOSSLESS: "/9j/wwALCAAIAAgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAgUI/9oACAEBAAEAAM/tttuw2227DbbbsNttuw2227"
    "DbbbsNttuw222//9k=",
}
"""8 x 8, the multiples of three: nothing at hand writes these encodings."""


def read(data: bytes, **rules: Any) -> Contents:
    return read_dicom(data, ReadingRules(**rules), KEY)


def outcome(data: bytes, **rules: Any) -> Contents | UnreadableError:
    try:
        return read(data, **rules)
    except UnreadableError as e:
        return e


def shown(data: bytes, frame: int = 0, **rules: Any) -> np.ndarray[Any, Any]:
    return np.asarray(read(data, **rules).frames[frame].image)


def ramp(low: int = 0, high: int = 4095, kind: str = "u2") -> np.ndarray[Any, Any]:
    return np.linspace(low, high, 64 * 48).round().astype(kind).reshape(48, 64)


def pydicom_meta_end(data: bytes) -> int:
    # Group length element: 132 bytes of prefix, 8 of tag, VR and length, then the number.
    return 144 + int.from_bytes(data[140:144], "little")
