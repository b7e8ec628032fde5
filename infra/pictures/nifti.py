"""A NIfTI volume: a few slices along the axis in which it was acquired, as a radiologist would see them."""

from __future__ import annotations

import io
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image

from medgr2.infra.pictures.aspect import squared
from medgr2.infra.pictures.choice import within_the_middle
from medgr2.infra.pictures.reading import BrokenError, Contents, Frame, RefusedError, UnreadableError
from medgr2.schemas.errors import MissingExtraError
from medgr2.schemas.intake import ReadingRules

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CHUNK, PIECE = 1 << 20, 1 << 16
HEADERS = {348: "Nifti1Header", 540: "Nifti2Header"}
FREE_TEXTS = ("descrip", "aux_file", "intent_name", "db_name")
LABEL_INTENT = 1002
FEWEST_GREYS = 16
"""Whole numbers with fewer values than that across all chosen slices are somebody's drawing of regions."""
AIR, METAL = -1000.0, 2000.0


def read_nifti(data: bytes, rules: ReadingRules) -> Contents:
    """Raises RefusedError or BrokenError. A compressed file is inflated no further than the last chosen slice."""
    try:
        return _read(data, rules)
    except (UnreadableError, MissingExtraError, MemoryError):
        raise
    except Exception as e:
        failure = type(e).__name__
    raise BrokenError("undecodable", failure)


def _read(data: bytes, rules: ReadingRules) -> Contents:
    try:
        import nibabel as nib
        import numpy as np
    except ImportError:
        raise MissingExtraError(
            "NIfTI files need libraries that are not installed", next_command="pip install 'medgr2[dicom]'"
        ) from None
    stream = _Forward(data)
    start = stream.take(544)
    header = _header(nib, start)
    shape = [int(n) for n in header.get_data_shape()] + [1, 1]
    columns, rows, slices = shape[:3]
    if min(columns, rows, slices) < 1 or len(header.get_data_shape()) < 2:
        raise BrokenError("undecodable", "its dimensions make no picture")
    if rows * columns > rules.max_pixels:
        raise RefusedError("too_many_pixels", f"{columns} x {rows}")
    kind = header.get_data_dtype()
    if kind.kind == "c" or kind.itemsize > 8:
        raise RefusedError("unsupported_encoding", "complex or very long numbers")
    if int(header["intent_code"]) == LABEL_INTENT:
        raise RefusedError("not_a_picture", "a map of labels")
    offset, one = float(header["vox_offset"]), rows * columns * kind.itemsize
    if not math.isfinite(offset) or offset < len(start) - 544:
        raise BrokenError("undecodable", "its data start nowhere")
    begin = max(int(offset), int(header["sizeof_hdr"]) + 4)
    if begin + one * slices > rules.memory_mb << 20:
        raise RefusedError("too_large", "its volume is larger than the memory to read it in")
    chosen = within_the_middle(slices, rules.frames)
    # One slice runs through columns fastest: Fortran order, first index = the file's first axis.
    planes = [
        np.frombuffer(stream.at(begin + one * k, one), dtype=kind).reshape((columns, rows), order="F") for k in chosen
    ]
    contents = Contents(frames=[])
    orientation = nib.orientations.io_orientation(header.get_best_affine())
    zooms = [float(z) for z in header.get_zooms()[:2]]
    for k, grey in zip(chosen, _shown(planes, header), strict=True):
        part = f"slice {k + 1} of {slices}" if slices > 1 else ""
        contents.frames.append(Frame(_upright(grey, orientation, zooms, rules), part))
    contents.found = _free_texts(header, start)
    contents.header = {
        "shape": shape[: len(header.get_data_shape())],
        "voxel_mm": [round(float(z), 4) for z in header.get_zooms()[:3] if math.isfinite(float(z))],
        "data_type": str(kind.newbyteorder("=")) if kind.names is None else "colour",
        "axes": "".join(code or "?" for code in nib.orientations.ornt2axcodes(orientation)),
    }
    return contents


def _header(nib: Any, start: bytes) -> Any:
    size = {int.from_bytes(start[:4], order) for order in ("little", "big")} & set(HEADERS)
    if not size:
        raise BrokenError("undecodable", "no NIfTI header")
    length = size.pop()
    header = getattr(nib, HEADERS[length]).from_fileobj(io.BytesIO(start), check=False)
    magic = bytes(header["magic"])[:3]
    if magic in {b"ni1", b"ni2"}:
        raise RefusedError("unsupported_encoding", "a header whose data are in another file")
    if magic not in {b"n+1", b"n+2"}:
        raise BrokenError("undecodable", "no NIfTI header")
    return header


class _Forward:
    """The bytes of a file, plain or gzipped, read forward only: what is skipped is never held."""

    def __init__(self, data: bytes) -> None:
        self._chunks = _inflated(data) if data[:2] == b"\x1f\x8b" else iter((data,))
        self._held = b""
        self._place = 0

    def take(self, length: int) -> bytes:
        """The first bytes, without moving on; fewer when the file is shorter."""
        self._fill(length)
        return self._held[:length]

    def at(self, place: int, length: int) -> bytes:
        while self._place + len(self._held) <= place:
            self._place += len(self._held)
            more = next(self._chunks, None)
            if more is None:
                raise BrokenError("truncated", "fewer bytes than its header declares")
            self._held = more
        self._held, self._place = self._held[place - self._place :], place
        self._fill(length)
        if len(self._held) < length:
            raise BrokenError("truncated", "fewer bytes than its header declares")
        return self._held[:length]

    def _fill(self, length: int) -> None:
        parts, size = [self._held], len(self._held)
        while size < length:
            more = next(self._chunks, None)
            if more is None:
                break
            parts.append(more)
            size += len(more)
        self._held = b"".join(parts) if len(parts) > 1 else self._held


def _inflated(data: bytes) -> Iterator[bytes]:
    """In bounded chunks; a file may consist of several gzip members, one after the other."""
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    for start in range(0, len(data), PIECE):
        rest = data[start : start + PIECE]
        while rest:
            yield inflater.decompress(rest, CHUNK)
            rest = inflater.unconsumed_tail
            if inflater.eof:
                rest = inflater.unused_data
                inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    yield inflater.flush()


def _shown(planes: list[Array], header: Any) -> list[Array]:
    """8-bit L or RGB planes; one window for all of them, from their own values."""
    import numpy as np

    if planes[0].dtype.names is not None:
        return [np.stack([plane[name] for name in plane.dtype.names[:3]], axis=-1).astype(np.uint8) for plane in planes]
    values = np.stack(planes)
    if values.dtype.kind in "iu" and 1 < len(np.unique(values)) < FEWEST_GREYS:
        raise RefusedError("not_a_picture", "a map of labels")
    measured = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
    if math.isfinite(slope) and slope != 0:
        measured = measured * slope + (intercept if math.isfinite(intercept) else 0.0)
    if measured.min() <= AIR * 0.9:
        # Hounsfield units: what lies below air is the scanner's padding.
        measured = np.clip(measured, AIR, METAL)
    low, high = (float(end) for end in np.percentile(measured, (0.5, 99.5)))
    if high <= low:
        low, high = float(measured.min()), float(measured.max())
    scaled = (measured - low) / (high - low) if high > low else np.zeros_like(measured)
    return list(np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8))


def _upright(plane: Array, orientation: Array, zooms: list[float], rules: ReadingRules) -> Image.Image:
    """Radiological display: columns run to the patient's left or back, rows to the back or down.

    `orientation` says of each file axis which axis of the body it follows (0 right, 1 front, 2 up) and in which
    sense; of two axes the higher one makes the rows, and each that runs right, front or up is turned round."""
    import numpy as np

    bodies, senses = [0, 1], [1, 1]
    if np.isfinite(orientation[:2]).all():
        bodies = [int(axis) for axis in orientation[:2, 0]]
        senses = [int(sense) for sense in orientation[:2, 1]]
    for axis in (0, 1):
        if senses[axis] > 0:
            plane = np.flip(plane, axis)
    if bodies[0] < bodies[1]:
        plane, zooms = np.swapaxes(plane, 0, 1), zooms[::-1]
    picture = Image.fromarray(np.ascontiguousarray(plane))
    return squared(picture, abs(zooms[0]), abs(zooms[1]), rules.max_pixels)


def _free_texts(header: Any, start: bytes) -> Counter[str]:
    found: Counter[str] = Counter()
    for name in FREE_TEXTS:
        if name in header.keys() and bytes(header[name]).strip(b" \0"):  # noqa: SIM118 - a header is no mapping
            found[f"nifti:{name}"] += 1
    size = int(header["sizeof_hdr"])
    if len(start) > size and start[size] != 0:
        # Extensions may hold whole DICOM headers.
        found["nifti:extension"] += 1
    return found
