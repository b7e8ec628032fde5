"""Small pictures in every format, made where they are needed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

MARKER = b"SECRET^PATIENT^19500112"


def picture(mode: str = "RGB", size: tuple[int, int] = (48, 40), seed: int = 1) -> Image.Image:
    """Smooth shapes with some noise: neither flat nor trivial to compress."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]]
    grey = 120 + 80 * np.sin(x / 7 + seed) * np.cos(y / 5) + rng.normal(0, 8, (size[1], size[0]))
    colour = np.stack([grey, np.roll(grey, 5, 1), np.roll(grey, 9, 0)], axis=2).clip(0, 255).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((grey.clip(0, 255) * 16).astype(np.uint16))
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32))
    return Image.fromarray(colour).convert(mode)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    out = io.BytesIO()
    (picture() if image is None else image).save(out, kind, **options)
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def png_chunk(kind: bytes, body: bytes) -> bytes:
    import zlib

    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def seeds() -> dict[str, bytes]:
    """One valid file of each kind and of each way to be unusual, by a name that ends in its suffix."""
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = MARKER.decode(), 6
    files = {
        "colour.jpg": encoded("JPEG", quality=80),
        "grey.jpg": encoded("JPEG", picture("L"), quality=80),
        "progressive.jpg": encoded("JPEG", quality=80, progressive=True),
        "described.jpg": encoded("JPEG", quality=80, exif=exif, comment=MARKER, xmp=MARKER),
        "restarts.jpg": encoded("JPEG", quality=80, restart_marker_blocks=2),
        "cmyk.jpg": encoded("JPEG", picture("CMYK")),
        "colour.png": encoded("PNG"),
        "grey.png": encoded("PNG", picture("L")),
        "alpha.png": encoded("PNG", picture("RGBA")),
        "palette.png": encoded("PNG", picture("P")),
        "deep.png": encoded("PNG", picture("I;16")),
        "two.png": encoded("PNG", save_all=True, append_images=[picture(seed=2)]),
        "colour.tif": encoded("TIFF"),
        "packed.tif": encoded("TIFF", compression="tiff_lzw"),
        "deflated.tif": encoded("TIFF", picture("L"), compression="tiff_adobe_deflate"),
        "jpeg.tif": encoded("TIFF", compression="jpeg"),
        "fax.tif": encoded("TIFF", picture("1"), compression="group4"),
        "float.tif": encoded("TIFF", picture("F")),
        "lossy.webp": encoded("WEBP", quality=80),
        "lossless.webp": encoded("WEBP", lossless=True),
        "colour.bmp": encoded("BMP"),
        "palette.bmp": encoded("BMP", picture("P")),
        "one.gif": encoded("GIF", picture("P")),
        "two.gif": encoded("GIF", save_all=True, append_images=[picture(seed=2)]),
    }
    return {**files, "file.dcm": dicom(), "bare.dcm": dicom()[132:], "volume.nii": nifti()}


def dicom() -> bytes:
    """A grey 16-bit picture in explicit little endian, written by hand: no library is needed to have one."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += b"\x00" * (len(value) % 2) if kind in (b"UI", b"OW", b"OB") else b" " * (len(value) % 2)
        length = len(value).to_bytes(4, "little") if kind in (b"OW", b"OB") else len(value).to_bytes(2, "little")
        gap = b"\x00\x00" if kind in (b"OW", b"OB") else b""
        return group.to_bytes(2, "little") + number.to_bytes(2, "little") + kind + gap + length + value

    def short(value: int) -> bytes:
        return value.to_bytes(2, "little")

    meta = element(2, 2, b"UI", b"1.2.840.10008.5.1.4.1.1.2") + element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    grey = np.asarray(picture("I;16"))
    return b"".join(
        [
            bytes(128) + b"DICM",
            element(2, 0, b"UL", len(meta).to_bytes(4, "little")) + meta,
            element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2") + element(8, 0x60, b"CS", b"CT"),
            element(0x10, 0x10, b"PN", MARKER) + element(0x10, 0x20, b"LO", b"MRN-4711"),
            element(0x28, 2, b"US", short(1)) + element(0x28, 4, b"CS", b"MONOCHROME2"),
            element(0x28, 0x10, b"US", short(grey.shape[0])) + element(0x28, 0x11, b"US", short(grey.shape[1])),
            element(0x28, 0x100, b"US", short(16)) + element(0x28, 0x101, b"US", short(16)),
            element(0x28, 0x102, b"US", short(15)) + element(0x28, 0x103, b"US", short(0)),
            element(0x7FE0, 0x10, b"OW", grey.tobytes()),
        ]
    )


def nifti() -> bytes:
    voxels = np.stack([np.asarray(picture("I;16", (32, 24), seed)) for seed in range(4)]).astype("<i2")
    header = bytearray(352)
    header[:4] = (348).to_bytes(4, "little")
    for at, value in zip(range(40, 56, 2), (3, 32, 24, 4, 1, 1, 1, 1), strict=True):
        header[at : at + 2] = value.to_bytes(2, "little")
    header[70:74] = (4).to_bytes(2, "little") + (16).to_bytes(2, "little")
    header[76:108] = np.array([1, 1, 1, 1, 0, 0, 0, 0], "<f4").tobytes()
    header[108:112], header[112:116] = np.array([352], "<f4").tobytes(), np.array([1], "<f4").tobytes()
    header[344:348] = b"n+1\x00"
    return bytes(header) + voxels.tobytes()
