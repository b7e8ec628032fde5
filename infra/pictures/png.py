"""A PNG file without anything but its picture."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field

from medgr2.infra.pictures.reading import BrokenError, RefusedError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_NAMES = {
    b"eXIf": "exif",
    b"iCCP": "icc",
    b"tEXt": "png:text",
    b"zTXt": "png:text",
    b"iTXt": "png:text",
    b"tIME": "png:time",
}
_SILENT = {b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"bKGD", b"hIST", b"acTL", b"fcTL", b"cICP", b"oFFs"}
"""Numbers about how to show a picture: removed, and nothing to report."""


@dataclass(slots=True)
class Png:
    data: bytes
    """The file with only what its pixels need: the very object given, if it holds nothing else."""
    width: int
    height: int
    bits: int
    colour: int
    plain: bool
    """8-bit grey or RGB without transparency, row after row: what may be stored as it is."""
    packed: list[bytes]
    exif: bytes = b""
    found: Counter[str] = field(default_factory=Counter)

    def holds_only_pixels(self) -> bool:
        """Nothing follows the rows in the compressed data. Only for plain files whose size was checked."""
        wanted = self.height * (1 + self.width * (1 if self.colour == 0 else 3))
        rows = zlib.decompressobj()
        try:
            size = len(rows.decompress(b"".join(self.packed), wanted + 1))
        except zlib.error:
            return False
        return size == wanted and rows.eof and not rows.unused_data


def strip(data: bytes) -> Png:
    found, kept, packed, exif, at, total = Counter[str](), [SIGNATURE], list[bytes](), b"", len(SIGNATURE), len(data)
    header, transparent, kind = b"", False, b""
    while kind != b"IEND":
        if at + 12 > total:
            raise BrokenError("truncated")
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if not kind.isalpha():
            raise BrokenError("undecodable", "no chunk where one must be")
        if end > total:
            raise BrokenError("truncated")
        if (kind == b"IHDR") == bool(header) or (kind == b"IHDR" and length != 13):
            raise BrokenError("undecodable", "not one header, at the start")
        if kind == b"IHDR":
            header = data[at + 8 : end - 4]
            kept.append(data[at:end])
        elif kind == b"IDAT":
            packed.append(data[at + 8 : end - 4])
            kept.append(data[at:end])
        elif kind == b"PLTE":
            if header[9] == 3:
                kept.append(data[at:end])
        elif kind == b"tRNS":
            transparent = True
            kept.append(data[at:end])
        elif kind == b"acTL" and int.from_bytes(data[at + 8 : at + 12], "big") > 1:
            raise RefusedError("animated")
        elif kind == b"eXIf":
            exif = data[at + 8 : end - 4]
            found["exif"] += 1
        elif kind != b"IEND" and kind not in _SILENT:
            xmp = kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp", at + 8)
            found["xmp" if xmp else _NAMES.get(kind, "png:other")] += 1
        at = end
    kept.append(_END)
    if data[at:].strip(b"\x00"):
        found["trailing"] += 1
    clean = b"".join(kept)
    plain = header[8] == 8 and header[9] in (0, 2) and not transparent and not header[12]
    return Png(
        data if clean == data else clean,
        int.from_bytes(header[:4], "big"),
        int.from_bytes(header[4:8], "big"),
        header[8],
        header[9],
        plain,
        packed,
        exif,
        found,
    )
