"""The pictures of a DICOM data set as a viewer would show them, in 8 bits. Imported only where one is read.

Decoding, the modality and VOI tables, windows and palettes are pydicom's and its plugins'; here are the limits before
any of them runs, the choice of frames, and what a viewer does when the header does not say."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing, get_decoder, pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medgr2.infra.pictures.choice import evenly
from medgr2.infra.pictures.dicom_terms import words
from medgr2.infra.pictures.reading import BrokenError, Frame, RefusedError
from medgr2.schemas.intake import ReadingRules

Array = np.ndarray[Any, Any]

KNOWN_COLOURS = words("MONOCHROME1|MONOCHROME2|PALETTE COLOR|RGB|YBR_FULL|YBR_FULL_422|YBR_ICT|YBR_RCT|YBR_PARTIAL_420")
DISPLAY = words(
    "BitsStored|PhotometricInterpretation|PixelRepresentation|PixelPaddingValue|RescaleSlope|RescaleIntercept|"
    "ModalityLUTSequence|WindowCenter|WindowWidth|VOILUTFunction|VOILUTSequence"
)
FIRST_NUMBERS = words("RescaleSlope|RescaleIntercept|WindowCenter|WindowWidth")
WIDEST_TABLE = 1 << 17
FAINTEST_SHARE = 0.005
HOUNSFIELD = (-1000.0, 2000.0)


def frames_of(ds: Dataset, rules: ReadingRules) -> list[Frame]:
    syntax = UID(str(ds.file_meta.get("TransferSyntaxUID") or _guessed(ds)))
    ds.file_meta.TransferSyntaxUID = syntax
    count = _check(ds, syntax, rules)
    frames = []
    for index in evenly(count, rules.frames):
        if syntax.is_encapsulated:
            _check_codestream(ds, index, count, rules)
        pixels = pixel_array(ds, index=index)
        part = f"frame {index + 1} of {count}" if count > 1 else ""
        frames.append(Frame(_shown(ds, pixels, index, native=not syntax.is_encapsulated), part))
    return frames


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
    grey = grey_levels(pixels, _display_of(ds, index), str(ds.get("Modality") or ""))
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


def _display_of(ds: Dataset, index: int) -> Dataset:
    """How this frame wants to be shown: from the data set, or from its functional groups, the frame's own last."""
    shown = Dataset()
    places: list[Any] = [ds]
    for groups in (
        (ds.get("SharedFunctionalGroupsSequence") or [])[:1],
        (ds.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1],
    ):
        for group in groups:
            places += (group.get("PixelValueTransformationSequence") or [])[:1]
            places += (group.get("FrameVOILUTSequence") or [])[:1]
    for place in places:
        for keyword in DISPLAY:
            if keyword in place and not place[keyword].is_empty:
                shown[keyword] = place[keyword]
    for keyword in FIRST_NUMBERS & set(shown.dir()):
        number = _first_number(shown[keyword].value)
        if number is None:
            delattr(shown, keyword)
        else:
            shown.add_new(keyword, "FD", number)
    return shown


def _first_number(value: Any) -> float | None:
    try:
        first = value if isinstance(value, str) or not hasattr(value, "__iter__") else next(iter(value))
        number = float(first)
    except (TypeError, ValueError, StopIteration):
        return None
    return number if math.isfinite(number) else None


def grey_levels(pixels: Array, display: Dataset, modality: str) -> Array:
    """Stored values to 8 bits: modality table, then VOI table or the first window, or else robust ends."""
    if pixels.dtype.kind not in "iu" or int(pixels.max()) - int(pixels.min()) >= WIDEST_TABLE:
        return _levels(pixels.astype(np.float64), None, display, modality)
    low = int(pixels.min())
    offsets = (pixels.astype(np.int64) - low) if pixels.dtype.itemsize > 2 else (pixels.astype(np.int32) - low)
    counts = np.bincount(offsets.ravel())
    table = _levels(np.arange(low, low + len(counts), dtype=np.int64), counts, display, modality)
    return np.ascontiguousarray(table[offsets])


def _levels(values: Array, counts: Array | None, display: Dataset, modality: str) -> Array:
    measured = values
    if "ModalityLUTSequence" in display or _has_rescale(display):
        measured = apply_modality_lut(values, display)
    shown = None
    if "VOILUTSequence" in display:
        whole = np.rint(measured).astype(np.int64)
        top = (1 << min(16, max(1, int(display.VOILUTSequence[0].LUTDescriptor[2])))) - 1
        shown = apply_voi(whole, display).astype(np.float64)
        shown = shown / max(top, 1) if shown.max() <= top else shown / shown.max()
    elif _has_window(display):
        ends = apply_windowing(np.array([-1e12, 1e12]), display)
        if ends[1] > ends[0]:
            shown = (apply_windowing(measured, display) - ends[0]) / (ends[1] - ends[0])
    elif measured is values and int(display.BitsStored) <= 8:
        signed = int(display.get("PixelRepresentation") or 0)
        bits = int(display.BitsStored)
        shown = (values + (1 << (bits - 1) if signed else 0)) / max(1, (1 << bits) - 1)
    if shown is None or (_is_flat(shown, counts) and not _is_flat(measured, counts)):
        low, high = _robust_ends(values, measured.astype(np.float64), counts, display, modality)
        shown = (measured - low) / (high - low) if high > low else np.zeros(measured.shape)
    return np.rint(np.clip(np.nan_to_num(shown), 0, 1) * 255).astype(np.uint8)


def _is_flat(shown: Array, counts: Array | None) -> bool:
    seen = shown if counts is None else shown[counts > 0]
    return bool(seen.max() - seen.min() <= 0)


def _has_rescale(display: Dataset) -> bool:
    if "RescaleSlope" not in display or "RescaleIntercept" not in display:
        return False
    return bool(display.RescaleSlope != 0)


def _has_window(display: Dataset) -> bool:
    if "WindowCenter" not in display or "WindowWidth" not in display:
        return False
    least = 1.0 if str(display.get("VOILUTFunction") or "LINEAR").upper() == "LINEAR" else 0.0
    return bool(display.WindowWidth > least)


def _robust_ends(
    values: Array, measured: Array, counts: Array | None, display: Dataset, modality: str
) -> tuple[float, float]:
    """The values that all but the faintest share of the picture lies between; padding does not count."""
    weights = np.ones(values.shape) if counts is None else counts.astype(np.float64)
    if "PixelPaddingValue" in display and isinstance(display.PixelPaddingValue, int):
        others = np.where(values == display.PixelPaddingValue, 0, weights)
        weights = others if others.sum() > 0 else weights
    if modality == "CT" and float(measured.min()) <= -500:
        measured = np.clip(measured, *HOUNSFIELD)
    flat, heavy = measured.ravel(), weights.ravel()
    order = np.argsort(flat, kind="stable")
    share = np.cumsum(heavy[order]) / heavy.sum()
    low, high = (int(np.searchsorted(share, end)) for end in (FAINTEST_SHARE, 1 - FAINTEST_SHARE))
    return float(flat[order[low]]), float(flat[order[min(high, len(flat) - 1)]])
