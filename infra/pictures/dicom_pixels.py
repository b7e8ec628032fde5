"""The pictures of a DICOM data set as a viewer would show them, in 8 bits. Imported only where one is read.

Decoding and palettes are pydicom's and its plugins'; here are the limits before any of them runs and the choice of
frames."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from medgr2.infra.pictures.aspect import squared
from medgr2.infra.pictures.choice import evenly
from medgr2.infra.pictures.dicom_grey import display_of, grey_levels
from medgr2.infra.pictures.dicom_terms import words
from medgr2.infra.pictures.reading import BrokenError, Frame, RefusedError
from medgr2.schemas.intake import ReadingRules

Array = np.ndarray[Any, Any]

KNOWN_COLOURS = words("MONOCHROME1|MONOCHROME2|PALETTE COLOR|RGB|YBR_FULL|YBR_FULL_422|YBR_ICT|YBR_RCT|YBR_PARTIAL_420")
STEADIER = {JPEGBaseline8Bit: "pillow", JPEG2000: "pylibjpeg", JPEG2000Lossless: "pylibjpeg"}
"""A damaged stream is an exception to these decoders; GDCM, which alone knows the rest, may end the process."""


def frames_of(ds: Dataset, rules: ReadingRules) -> list[Frame]:
    syntax = UID(str(ds.file_meta.get("TransferSyntaxUID") or _guessed(ds)))
    ds.file_meta.TransferSyntaxUID = syntax
    count = _check(ds, syntax, rules)
    frames = []
    for index in evenly(count, rules.frames):
        if syntax.is_encapsulated:
            _check_codestream(ds, index, count, rules)
        pixels = pixel_array(ds, index=index, decoding_plugin=STEADIER.get(syntax, ""))
        part = f"frame {index + 1} of {count}" if count > 1 else ""
        picture = _shown(ds, pixels, index, native=not syntax.is_encapsulated)
        frames.append(Frame(squared(picture, *_sides(ds), rules.max_pixels), part))
    return frames


def _sides(ds: Dataset) -> tuple[float, float]:
    """Height and width of a pixel."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        try:
            tall, wide = (float(side) for side in ds[keyword].value)
        except (KeyError, TypeError, ValueError):
            continue
        return tall, wide
    return 1.0, 1.0


def _guessed(ds: Dataset) -> UID:
    """Of a file without its meta information: as it could be read."""
    implicit, little = ds.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check(ds: Dataset, syntax: UID, rules: ReadingRules) -> int:
    """The number of frames, once the header has proven to be within the limits and true to the size of the data."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        name = syntax.name if syntax.name != str(syntax) else "an unknown transfer syntax"
        raise RefusedError("unsupported_encoding", name)
    rows, columns, samples = int(ds.Rows), int(ds.Columns), int(ds.get("SamplesPerPixel") or 1)
    if rows * columns * samples > rules.max_pixels:
        raise RefusedError("too_many_pixels", f"{columns} x {rows} x {samples}")
    if rows < 1 or columns < 1 or samples not in (1, 3):
        raise BrokenError("undecodable", "rows, columns or samples make no picture")
    if str(ds.PhotometricInterpretation) not in KNOWN_COLOURS:
        raise RefusedError("unsupported_encoding", "an unknown photometric interpretation")
    count = int(ds.get("NumberOfFrames") or 1)
    if count < 1:
        raise BrokenError("undecodable", "no frames")
    if not syntax.is_encapsulated:
        halves = 2 if str(ds.PhotometricInterpretation) == "YBR_FULL_422" else samples
        needed = rows * columns * halves * int(ds.BitsAllocated) * count // 8
        if len(ds.PixelData) < needed:
            raise BrokenError("truncated", "fewer bytes of pixels than the header declares")
    return count


def _check_codestream(ds: Dataset, index: int, count: int, rules: ReadingRules) -> None:
    """What a decoder allocates follows the compressed stream, not the header."""
    offsets = None
    if ds.get("ExtendedOffsetTable") and ds.get("ExtendedOffsetTableLengths"):
        offsets = (ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths)
    size = codestream_size(get_frame(ds.PixelData, index, number_of_frames=count, extended_offsets=offsets))
    if size is not None and size[0] * size[1] > rules.max_pixels:
        raise RefusedError("too_many_pixels", f"{size[0]} x {size[1]} in its compressed stream")
    if size is not None and size != (int(ds.Columns), int(ds.Rows)):
        # GDCM ends the process over it.
        raise BrokenError("undecodable", "its compressed stream has another size than its header")


def codestream_size(stream: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG, JPEG-LS or JPEG 2000 stream; None for anything else (RLE has no size of its own)."""
    at = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at >= 0:
        if len(stream) < at + 24:
            return None
        right, bottom, left, top = struct.unpack(">4I", stream[at + 8 : at + 24])
        return max(0, right - left), max(0, bottom - top)
    if stream[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(stream):
        if stream[at] != 0xFF:
            return None
        marker = stream[at + 1]
        if marker in {0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">2H", stream[at + 5 : at + 9])
            return width, height
        at += 1 if marker == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None


def _shown(ds: Dataset, pixels: Array, index: int, *, native: bool) -> Image.Image:
    if pixels.ndim == 3:
        return Image.fromarray(_bytes_of(pixels, int(ds.BitsStored)))
    if native and pixels.dtype.kind in "iu":
        pixels = _without_unused_bits(ds, pixels)
    if str(ds.PhotometricInterpretation) == "PALETTE COLOR":
        colours = apply_color_lut(pixels, ds)
        return Image.fromarray(_bytes_of(colours, 8 if colours.max() <= 255 else 16))
    grey = grey_levels(pixels, display_of(ds, index), str(ds.get("Modality") or ""))
    if str(ds.PhotometricInterpretation) == "MONOCHROME1":
        grey = 255 - grey
    return Image.fromarray(grey)


def _bytes_of(colours: Array, bits: int) -> Array:
    if bits > 8:
        colours = colours >> (bits - 8)
    return np.ascontiguousarray(np.clip(colours, 0, 255).astype(np.uint8))


def _without_unused_bits(ds: Dataset, pixels: Array) -> Array:
    """Bits beyond those stored may hold an overlay; shifting out and back also sets the sign."""
    allocated, stored = int(ds.BitsAllocated), int(ds.BitsStored)
    high = int(ds.get("HighBit", stored - 1))
    if allocated not in (8, 16, 32) or not 0 < stored <= allocated or not stored - 1 <= high < allocated:
        return pixels
    up = allocated - 1 - high
    return (pixels << up) >> (allocated - stored) if stored < allocated else pixels
