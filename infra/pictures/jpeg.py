"""A JPEG file without anything but its picture. The compressed data is copied, never coded again.

What hides inside the compressed data itself (bits after the last block) is not looked for."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from medgr2.infra.pictures.reading import BrokenError

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JFIF = b"\xff\xe0\x00\x10JFIF\x00"
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_NEEDED = {0xC4, 0xCC, 0xDB, 0xDD}
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_STARTS = (
    (0xE0, b"JFXX\x00", "jpeg:thumbnail"),
    (0xE1, b"Exif\x00", "exif"),
    (0xE1, b"http://ns.adobe.com/", "xmp"),
    (0xE2, b"ICC_PROFILE\x00", "icc"),
    (0xE2, b"MPF\x00", "jpeg:preview"),
    (0xED, b"Photoshop 3.0\x00", "iptc"),
)


@dataclass(slots=True)
class Jpeg:
    data: bytes
    """The file with only what its picture and its colours need: the very object given, if it holds nothing else."""
    width: int
    height: int
    channels: int
    bits: int
    exif: bytes = b""
    found: Counter[str] = field(default_factory=Counter)


def strip(data: bytes) -> Jpeg:
    kept, exif, found, at, size = [b"\xff\xd8"], b"", Counter[str](), 2, None
    total = len(data)
    while True:
        if at + 2 > total:
            raise BrokenError("truncated")
        if data[at] != 0xFF:
            raise BrokenError("undecodable", "no marker where one must be")
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        if marker == 0xD9:
            break
        if at + 4 > total:
            raise BrokenError("truncated")
        length = data[at + 2] << 8 | data[at + 3]
        end = at + 2 + length
        if length < 2:
            raise BrokenError("undecodable", "a segment shorter than its own length")
        if end > total:
            raise BrokenError("truncated")
        if marker in _NEEDED:
            kept.append(data[at:end])
        elif marker in _FRAMES:
            if size is not None or length < 8:
                raise BrokenError("undecodable", "not one frame header")
            size = (data[at + 7] << 8 | data[at + 8], data[at + 5] << 8 | data[at + 6], data[at + 9], data[at + 4])
            kept.append(data[at:end])
        elif marker == 0xDA:
            scan = _MARKER.search(data, end)
            if scan is None:
                raise BrokenError("truncated")
            end = scan.start()
            kept.append(data[at:end])
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            kind, needed = _segment(marker, data[at:end])
            kept.append(needed)
            if kind:
                found[kind] += 1
            if kind == "exif" and not exif:
                exif = data[at + 4 : end]
        else:
            raise BrokenError("undecodable", f"marker {marker:02x}")
        at = end
    if size is None:
        raise BrokenError("undecodable", "no frame header")
    kept.append(b"\xff\xd9")
    if data[at + 2 :].strip(b"\x00\xff"):
        found["trailing"] += 1
    clean = b"".join(kept)
    return Jpeg(data if clean == data else clean, *size, exif, found)


def _segment(marker: int, segment: bytes) -> tuple[str, bytes]:
    """What it held that is removed ('' for nothing), and what of it must stay."""
    if marker == 0xE0 and segment[4:9] == b"JFIF\x00" and len(segment) >= 18:
        # Decoders take the colours from the presence of this segment: it stays, without its thumbnail.
        return ("jpeg:thumbnail" if len(segment) > 18 else ""), _JFIF + segment[9:16] + b"\x00\x00"
    if marker == 0xEE and segment[4:9] == b"Adobe" and len(segment) >= 16:
        # Of the Adobe segment only the transform at its end says anything about colours.
        return ("jpeg:adobe" if len(segment) > 16 else ""), _ADOBE + segment[15:16]
    if marker == 0xFE:
        return "comment", b""
    for kind, start, name in _STARTS:
        if marker == kind and segment[4:].startswith(start):
            return name, b""
    return f"jpeg:app{marker - 0xE0}", b""
