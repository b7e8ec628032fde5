"""One file, whatever it is, to clean pictures: what runs in the process that may die."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from typing import TYPE_CHECKING

from PIL import Image

from medgr2.infra.pictures.quality import check_size, is_blank
from medgr2.infra.pictures.raster import glance, kind_of, loaded, read_raster
from medgr2.infra.pictures.reading import BrokenError, Contents, Frame, Picture, Reading, RefusedError, UnreadableError
from medgr2.schemas.errors import Medgr2Error

if TYPE_CHECKING:
    from medgr2.infra.pictures.burned_in import TextFinder
    from medgr2.infra.pseudonyms import Pseudonyms
    from medgr2.schemas.intake import ReadingRules

_VALUE_KINDS = (
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
CLEAN_PIXEL_DATA = "113101"
"""PS3.16 code of the option: text burned into the pixels was looked for and removed."""
_COMPRESSION = 1
"""zlib level of stored PNGs. Fixed: the same pixels must give the same bytes, for they give the image id."""


class Reader:
    """Keeps what is slow to load (the text finder) between files."""

    def __init__(self, rules: ReadingRules, pseudonyms: Pseudonyms) -> None:
        self._rules = rules
        self._pseudonyms = pseudonyms
        self._finder: TextFinder | None = None

    def read(self, data: bytes, suffix: str) -> Reading:
        """`patient` and `study` of the reading are keyed codes: the names stay here."""
        contents = self._decode(data, suffix)
        pictures: list[Picture] = []
        left_out: Counter[str] = Counter()
        look = self._rules.burned_in != "off" and (contents.risky or self._rules.burned_in_everywhere)
        for frame in contents.frames:
            try:
                pictures.append(self._fit(frame, look))
            except RefusedError as e:
                if len(contents.frames) == 1:
                    raise
                left_out[e.reason] += 1
        if not pictures:
            reason = left_out.most_common(1)[0][0] if left_out else "no_pixels"
            raise RefusedError(reason, f"all {len(contents.frames)} parts")
        if "deidentified" in contents.header and all(picture.burned_in != "unchecked" for picture in pictures):
            contents.header["deidentified"]["codes"].append(CLEAN_PIXEL_DATA)
        return Reading(
            pictures,
            left_out,
            contents.modality,
            contents.anatomy,
            self._pseudonyms.code("patient", contents.patient) if contents.patient else "",
            self._pseudonyms.code("study", contents.study) if contents.study else "",
            contents.header,
            contents.found,
            self._pseudonyms.label(contents.number) if contents.number else "",
        )

    def _decode(self, data: bytes, suffix: str) -> Contents:
        try:
            if kind_of(data) is not None:
                return read_raster(data, suffix, self._rules)
            if not data:
                raise BrokenError("empty")
            if is_dicom(data):
                from medgr2.infra.pictures.dicom import read_dicom

                if data[128:132] != b"DICM":
                    data = bytes(128) + b"DICM" + data
                return read_dicom(data, self._rules, self._pseudonyms)
            if is_nifti(data):
                from medgr2.infra.pictures.nifti import read_nifti

                return read_nifti(data, self._rules)
            return read_raster(data, suffix, self._rules)
        except (UnreadableError, Medgr2Error, MemoryError):
            raise
        except Exception as e:
            # Decoders fail on bad input in ways of their own, and quote it: only the kind of the error may leave.
            raise BrokenError("undecodable", type(e).__name__) from None

    def _fit(self, frame: Frame, look_for_text: bool) -> Picture:
        image, original, burned_in = frame.image, frame.original, "unchecked"
        check_size(*image.size, self._rules)
        # A glance cannot see a single spot: what looks blank to it is looked at in full.
        seen = loaded(image) if look_for_text else glance(frame)
        if is_blank(seen) and (seen is image or is_blank(loaded(image))):
            raise RefusedError("blank")
        if look_for_text:
            seen = self._without_text(image)
            burned_in = "none" if seen is image else "masked"
            image, original = seen, original if seen is image else None
        from medgr2.infra.pictures.fingerprint import fingerprint

        media_type = "image/png"
        if original is None:
            original = _png(image)
        elif original.startswith(b"\xff\xd8"):
            media_type = "image/jpeg"
        return Picture(original, image.width, image.height, media_type, frame.part, fingerprint(seen), burned_in)

    def _without_text(self, image: Image.Image) -> Image.Image:
        if self._finder is None:
            from medgr2.infra.pictures import burned_in

            if not burned_in.available():
                raise RefusedError("burned_in_text_not_checked", "pip install 'medgr2[ocr]', or burned_in: off")
            self._finder = burned_in.TextFinder()
        cleaned, boxes, clean = self._finder.clean(image)
        if not clean or (boxes and self._rules.burned_in == "quarantine"):
            raise RefusedError("burned_in_text")
        return cleaned if boxes else image


def is_dicom(data: bytes) -> bool:
    """With its preamble, or beginning at once with a group that a DICOM file begins with, in any byte order."""
    if data[128:132] == b"DICM":
        return True
    if data[:2] in (b"\x02\x00", b"\x08\x00") and len(data) > 12:
        length = int.from_bytes(data[4:8], "little")
        return data[4:6] in _VALUE_KINDS or (data[2:4] in (b"\x00\x00", b"\x01\x00", b"\x05\x00") and length < 256)
    return data[:2] in (b"\x00\x02", b"\x00\x08") and data[4:6] in _VALUE_KINDS


def is_nifti(data: bytes) -> bool:
    head = data[:540]
    if data.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(data[:4096], 540)
        except zlib.error:
            return False
    return head[344:348] in (b"n+1\x00", b"ni1\x00") or head[4:8] in (b"n+2\x00", b"ni2\x00")


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    bare = image.copy()
    bare.info = {}
    bare.save(out, "PNG", compress_level=_COMPRESSION)
    return out.getvalue()
