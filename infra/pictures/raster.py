"""Plain pictures: PNG, JPEG, TIFF, WebP, BMP, GIF, by what they hold and not by what they are called.

JPEG and PNG lose their metadata without being coded again; the others are stored as PNG. Colour profiles are dropped
and not applied: they carry text, and what reads the pictures later ignores them."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from medgr2.infra.pictures import jpeg, png
from medgr2.infra.pictures.eight_bit import eight_bit
from medgr2.infra.pictures.quality import check_size
from medgr2.infra.pictures.reading import BrokenError, Contents, Frame, RefusedError, UnreadableError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

    from medgr2.schemas.intake import ReadingRules

_SUFFIXES = {
    "jpeg": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "png": {".png"},
    "tiff": {".tif", ".tiff"},
    "webp": {".webp"},
    "bmp": {".bmp", ".dib"},
    "gif": {".gif"},
}
_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "tiff": TiffImagePlugin.TiffImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
}
GLANCE = 96
"""Shorter side of the smallest copy of a JPEG that stands for it: three times that of a fingerprint."""
_FOREIGN = (
    (0, b"\x00\x00\x00\x0cjP  \r\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIF"),
    (4, b"ftypmif1", "HEIF"),
)
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_ORIENTATION, _GPS, _EXIF_IFD, _MAKER_NOTE = 0x0112, 0x8825, 0x8769, 0x927C
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_TAGS = {700: "xmp", 33723: "iptc", 34377: "tiff:Photoshop", 34665: "exif", 34853: "exif:gps", 34675: "icc"}
_TIFF_TEXT = {
    269: "DocumentName",
    270: "ImageDescription",
    271: "Make",
    272: "Model",
    285: "PageName",
    305: "Software",
    306: "DateTime",
    315: "Artist",
    316: "HostComputer",
    33432: "Copyright",
}
_TIFF_TECHNICAL = {32995, 32996, 32997, 32998}
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0


def kind_of(data: bytes) -> str | None:
    """'jpeg', 'png', ...: None if these bytes begin no plain picture that is read here."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(png.SIGNATURE):
        return "png"
    if data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "tiff"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"BM") and len(data) > 26 and data[14] in _BMP_HEADERS and data[15:18] == bytes(3):
        return "bmp"
    return None


def read_raster(data: bytes, suffix: str, rules: ReadingRules) -> Contents:
    kind = kind_of(data)
    if kind is None:
        for at, magic, name in _FOREIGN:
            if data.startswith(magic, at):
                raise RefusedError("unsupported_encoding", name)
        raise BrokenError("not_an_image")
    header: dict[str, Any] = {"format": kind}
    if suffix.lower() not in _SUFFIXES[kind]:
        header["mislabelled"] = True
    with _decoding():
        if kind == "jpeg":
            return _read_jpeg(data, rules, header)
        if kind == "png":
            return _read_png(data, rules, header)
        return _read_other(data, kind, rules, header)


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except Exception as e:
        # Decoders quote what they choke on: only the kind of the error may leave.
        reason = "truncated" if "truncated" in str(e).lower() else "undecodable"
        raise BrokenError(reason, type(e).__name__) from None


def _read_jpeg(data: bytes, rules: ReadingRules, header: dict[str, Any]) -> Contents:
    file = jpeg.strip(data)
    if file.channels not in (1, 3):
        raise RefusedError("wrong_colour", f"JPEG with {file.channels} channels")
    if file.bits != 8:
        raise RefusedError("unsupported_encoding", f"JPEG with {file.bits} bits")
    check_size(file.width, file.height, rules)
    image: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(file.data))
    turned = _upright(image, _orientation(file.exif, file.found)) if file.exif else image
    original = file.data if turned is image else None  # and then decoded when looked at: see `glance`
    return Contents([Frame(turned, original=original)], header=header, found=file.found)


def glance(frame: Frame) -> Image.Image:
    """What a look at the whole picture needs, possibly in grey and at a fraction of its size. For a JPEG that is stored
    as it is, all of its data is read and checked, and the larger the picture the less arithmetic is done on it."""
    image = frame.image
    if frame.original is None or not isinstance(image, JpegImagePlugin.JpegImageFile):
        return image
    with _decoding():
        small = JpegImagePlugin.JpegImageFile(io.BytesIO(frame.original))
        small.draft("L", (GLANCE, GLANCE))
        small.load()
    return small


def loaded(image: Image.Image) -> Image.Image:
    with _decoding():
        image.load()
    return image


def _read_png(data: bytes, rules: ReadingRules, header: dict[str, Any]) -> Contents:
    file = png.strip(data)
    check_size(file.width, file.height, rules)
    image: Image.Image = PngImagePlugin.PngImageFile(io.BytesIO(file.data))
    image.load()
    if file.bits == 16:
        header["scaled_from"] = "16"
    fit = _upright(eight_bit(image, header), _orientation(file.exif, file.found) if file.exif else 1)
    keeps = fit is image and file.plain and file.holds_only_pixels()
    return Contents([Frame(fit, original=file.data if keeps else None)], header=header, found=file.found)


def _read_other(data: bytes, kind: str, rules: ReadingRules, header: dict[str, Any]) -> Contents:
    image = _OPENERS[kind](io.BytesIO(data))
    check_size(*image.size, rules)
    found, inverted, orientation = Counter[str](), False, 1
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _look_for_more(image, "several_pages")
        for tag in image.tag_v2:
            if name := _TIFF_TAGS.get(tag) or _tiff_text(tag):
                found[name] += 1
        # Pillow turns TIFFs upright by itself, and turns 1 and 8-bit greys around, but not deeper ones.
        inverted = image.mode[0] in "IF" and image.tag_v2.get(_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO
    else:
        if kind in ("gif", "webp"):
            _look_for_more(image, "animated")
        for name, key in (("exif", "exif"), ("xmp", "xmp"), ("icc", "icc_profile"), ("comment", "comment")):
            found[name] += key in image.info
        if image.info.get("exif"):
            orientation = _orientation(image.info["exif"], found)
    image.load()
    fit = _upright(eight_bit(image, header, inverted), orientation)
    return Contents([Frame(fit)], header=header, found=+found)


def _look_for_more(image: ImageFile, reason: str) -> None:
    try:
        image.seek(1)
    except EOFError:
        image.seek(0)
        return
    raise RefusedError(reason)


def _tiff_text(tag: int) -> str | None:
    if tag in _TIFF_TEXT:
        return f"tiff:{_TIFF_TEXT[tag]}"
    return "tiff:private" if tag >= 32768 and tag not in _TIFF_TECHNICAL else None


def _orientation(exif: bytes, found: Counter[str]) -> int:
    tags = Image.Exif()
    try:
        tags.load(exif)
        if _GPS in tags:
            found["exif:gps"] += 1
        if tags.get_ifd(_EXIF_IFD).get(_MAKER_NOTE):
            found["exif:maker_note"] += 1
        return int(tags.get(_ORIENTATION, 1))
    except Exception:
        return 1  # a damaged EXIF goes with the rest of it


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)
