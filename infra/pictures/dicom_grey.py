"""Stored values of a DICOM frame to the greys a viewer shows. Imported only where one is read.

The modality and VOI tables and the windows are pydicom's; here is which of them holds for a frame, and what a viewer
does when the header does not say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

from medgr2.infra.pictures.dicom_terms import words

Array = np.ndarray[Any, Any]

DISPLAY = words(
    "BitsStored|PhotometricInterpretation|PixelRepresentation|PixelPaddingValue|RescaleSlope|RescaleIntercept|"
    "ModalityLUTSequence|WindowCenter|WindowWidth|VOILUTFunction|VOILUTSequence"
)
FIRST_NUMBERS = words("RescaleSlope|RescaleIntercept|WindowCenter|WindowWidth")
WIDEST_TABLE = 1 << 17
FAINTEST_SHARE = 0.005
HOUNSFIELD = (-1000.0, 2000.0)


def display_of(ds: Dataset, index: int) -> Dataset:
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
