from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pictures import MARKER, encoded, jpeg_segment, picture, pixels, png_chunk
from PIL import Image

from medgr2.infra.pictures import jpeg, png
from medgr2.infra.pictures.raster import read_raster
from medgr2.infra.pictures.reading import BrokenError, Contents, RefusedError, UnreadableError
from medgr2.schemas.intake import ReadingRules

REALKIT = Path(__file__).parents[3].parent / "shared" / "data" / "realkit"
RULES = ReadingRules()


def read(data: bytes, suffix: str = ".x", rules: ReadingRules = RULES) -> Contents:
    return read_raster(data, suffix, rules)


def refusal(data: bytes, suffix: str = ".x", rules: ReadingRules = RULES) -> tuple[type[UnreadableError], str]:
    with pytest.raises(UnreadableError) as e:
        read(data, suffix, rules)
    return type(e.value), e.value.reason


def described(**more: object) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = MARKER.decode()
    for tag, value in more.items():
        exif[int(tag[1:])] = value
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


@pytest.mark.parametrize(
    "data",
    [
        encoded("JPEG"),
        encoded("JPEG", picture("L")),
        encoded("JPEG", progressive=True),
        encoded("JPEG", restart_marker_blocks=1),
        encoded("PNG"),
        encoded("PNG", picture("L")),
    ],
)
def test_a_file_that_holds_only_its_picture_is_kept_as_it_is(data: bytes) -> None:
    contents = read(data)
    assert contents.frames[0].original is data
    assert not contents.found
    assert np.array_equal(np.asarray(contents.frames[0].image), pixels(data))


def test_everything_said_in_a_jpeg_is_removed_and_counted() -> None:
    plain = encoded("JPEG", quality=75)
    data = encoded("JPEG", quality=75, exif=described(), xmp=MARKER, comment=MARKER, icc_profile=MARKER)
    iptc = jpeg_segment(0xED, b"Photoshop 3.0\x00" + MARKER)
    own = jpeg_segment(0xE7, MARKER)
    preview = jpeg_segment(0xE2, b"MPF\x00" + MARKER)
    data = data[:2] + iptc + own + preview + data[2:] + MARKER
    contents = read(data)
    clean = contents.frames[0].original
    assert clean is not None
    assert MARKER not in clean
    assert np.array_equal(pixels(clean), pixels(plain))
    assert set(contents.found) == {
        "exif", "exif:gps", "xmp", "comment", "icc", "iptc", "jpeg:app7", "jpeg:preview", "trailing"
    }  # fmt: skip


def test_a_jpeg_thumbnail_goes_and_the_colours_stay() -> None:
    data = encoded("JPEG")
    assert data[2:4] == b"\xff\xe0"
    thumbnail = jpeg_segment(0xE0, data[6:18] + b"\x01\x01" + b"\x01\x02\x03")
    contents = read(data[:2] + thumbnail + jpeg_segment(0xE0, b"JFXX\x00" + MARKER) + data[20:])
    assert contents.frames[0].original == data
    assert contents.found == {"jpeg:thumbnail": 2}


def test_an_adobe_segment_decides_the_colours_and_stays() -> None:
    adobe = jpeg_segment(0xEE, b"Adobe\x00\x64\x80\x00\x00\x00\x00" + MARKER)
    data = encoded("JPEG")
    data = data[:2] + adobe + data[20:]  # instead of JFIF: channels are RGB, not YCbCr
    clean = read(data).frames[0].original
    assert clean is not None
    assert MARKER not in clean
    assert np.array_equal(pixels(clean), pixels(data))
    assert not np.array_equal(pixels(clean), pixels(encoded("JPEG")))


def test_everything_said_in_a_png_is_removed_and_counted() -> None:
    plain = encoded("PNG")
    chunks = [
        png_chunk(b"tEXt", b"Comment\x00" + MARKER),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + MARKER),
        png_chunk(b"tIME", b"\x07\xd0\x01\x01\x01\x01\x01"),
        png_chunk(b"eXIf", described()),
        png_chunk(b"prVt", MARKER),
        png_chunk(b"gAMA", (45455).to_bytes(4, "big")),
    ]
    contents = read(plain[:33] + b"".join(chunks) + plain[33:] + MARKER)
    assert contents.frames[0].original == plain
    assert contents.found == {
        "png:text": 1, "xmp": 1, "png:time": 1, "exif": 1, "exif:gps": 1, "png:other": 1, "trailing": 1
    }  # fmt: skip


def test_what_hides_behind_the_rows_of_a_png_is_not_stored() -> None:
    import zlib

    raw = b"".join(b"\x00" + row.tobytes() for row in np.asarray(picture("L")))
    for packed in (zlib.compress(raw) + MARKER, zlib.compress(raw + MARKER, 0)):
        head = png_chunk(b"IHDR", (48).to_bytes(4, "big") + (40).to_bytes(4, "big") + b"\x08\x00\x00\x00\x00")
        data = png.SIGNATURE + head + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
        assert np.array_equal(pixels(data), np.asarray(picture("L")))
        assert read(data).frames[0].original is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright(kind: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    frame = read(data).frames[0]
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(frame.image), np.asarray(expected.convert("RGB")))
    assert (frame.original is None) == (orientation != 1 or kind in ("TIFF", "WEBP"))


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "BMP", "GIF"])
def test_other_formats_are_decoded_for_storing_as_png(kind: str) -> None:
    image = picture("L")
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    contents = read(encoded(kind, image, **options))
    frame = contents.frames[0]
    assert frame.original is None
    assert np.array_equal(np.asarray(frame.image.convert("L")), np.asarray(image))


def test_tiff_text_is_counted() -> None:
    contents = read(encoded("TIFF", tiffinfo={270: MARKER.decode(), 315: "Dr. X", 65000: "private"}))
    assert contents.found == {"tiff:ImageDescription": 1, "tiff:Artist": 1, "tiff:private": 1}


def test_deep_greys_are_scaled_and_white_is_zero_is_turned() -> None:
    deep = np.asarray(picture("I;16")).astype(float)
    for data in (encoded("PNG", picture("I;16")), encoded("TIFF", picture("F"))):
        contents = read(data)
        image = np.asarray(contents.frames[0].image)
        assert image.dtype == np.uint8
        assert image.max() == 255
        assert image.min() == 0
        assert np.corrcoef(image.ravel(), deep.ravel())[0, 1] > 0.99
        assert "scaled_from" in contents.header
    turned = np.asarray(read(encoded("TIFF", picture("I;16"), tiffinfo={262: 0})).frames[0].image)
    assert np.corrcoef(turned.ravel(), deep.ravel())[0, 1] < -0.99


def test_float_tiff_without_numbers_is_blank() -> None:
    nothing = Image.fromarray(np.full((32, 32), np.nan, np.float32))
    assert refusal(encoded("TIFF", nothing)) == (RefusedError, "blank")
    some = np.asarray(picture("F")).copy()
    some[0, 0], some[0, 1] = np.nan, np.inf
    assert np.asarray(read(encoded("TIFF", Image.fromarray(some))).frames[0].image).std() > 20


def test_what_was_transparent_is_not_shown() -> None:
    image = picture("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    hidden = read(encoded("PNG", image)).frames[0].image
    assert hidden.mode == "RGB"
    assert hidden.getextrema() == ((0, 0), (0, 0), (0, 0))
    grey = read(encoded("PNG", picture("LA"))).frames[0].image
    assert grey.mode == "L"
    assert np.array_equal(np.asarray(grey), np.asarray(picture("LA").getchannel(0)))


def test_grey_palettes_become_grey() -> None:
    assert read(encoded("GIF", picture("L"))).frames[0].image.mode == "L"
    assert read(encoded("PNG", picture("P"))).frames[0].image.mode == "RGB"
    assert read(encoded("PNG", picture("1"))).frames[0].image.mode == "L"


def test_names_that_lie() -> None:
    assert read(encoded("JPEG"), ".PNG").header == {"format": "jpeg", "mislabelled": True}
    assert read(encoded("JPEG"), ".JPG").header == {"format": "jpeg"}
    for data in (b"hello, this is text", b"PK\x03\x04" + bytes(90), b"%PDF-1.7\n", b"<html></html>", b"\x00" * 200):
        assert refusal(data, ".jpg") == (BrokenError, "not_an_image")
    assert refusal(b"\x00\x00\x00\x0cjP  \r\n\x87\n") == (RefusedError, "unsupported_encoding")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded("GIF", save_all=True, append_images=[picture(seed=2)]), "animated"),
        (encoded("PNG", save_all=True, append_images=[picture(seed=2)]), "animated"),
        (encoded("WEBP", save_all=True, append_images=[picture(seed=2)]), "animated"),
        (encoded("TIFF", save_all=True, append_images=[picture(seed=2)]), "several_pages"),
        (encoded("JPEG", picture("CMYK")), "wrong_colour"),
        (encoded("TIFF", picture("CMYK")), "wrong_colour"),
        (encoded("TIFF", picture("LAB")), "wrong_colour"),
        (encoded("PNG", picture(size=(400, 15))), "too_small"),
        (encoded("PNG", picture(size=(2000, 16))), "extreme_shape"),
    ],
)
def test_unwanted_pictures_are_refused(data: bytes, reason: str) -> None:
    assert refusal(data) == (RefusedError, reason)


def bomb(kind: str) -> bytes:
    side = 60_000
    small = encoded(kind)
    if kind == "PNG":
        header = side.to_bytes(4, "big") * 2 + small[24:29]
        return small[:8] + png_chunk(b"IHDR", header) + small[33:]
    if kind == "JPEG":
        at = small.index(b"\xff\xc0") + 5
        return small[:at] + side.to_bytes(2, "big") * 2 + small[at + 4 :]
    if kind == "BMP":
        return small[:18] + side.to_bytes(4, "little") * 2 + small[26:]
    return small.replace((48).to_bytes(2, "little"), side.to_bytes(2, "little")).replace(
        (40).to_bytes(2, "little"), side.to_bytes(2, "little")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_bombs_are_refused_by_their_header(kind: str) -> None:
    assert refusal(bomb(kind)) == (RefusedError, "too_many_pixels")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_cut_files_are_broken(kind: str, share: float) -> None:
    data = encoded(kind)
    error, reason = refusal(data[: int(len(data) * share)])
    assert error is BrokenError
    assert reason in ("truncated", "undecodable")
    if kind in ("PNG", "JPEG"):
        assert reason == "truncated"


def test_the_real_pictures_stay_byte_for_byte() -> None:
    if not REALKIT.is_dir():
        pytest.skip("no ../shared/data/realkit beside the checkout")
    with (REALKIT / "labels.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 1505
    for row in rows:
        data = (REALKIT / row["file"]).read_bytes()
        original = read(data, ".jpg").frames[0].original
        assert original is data
        assert hashlib.sha256(original).hexdigest() == row["sha256"]


@given(
    places=st.lists(st.tuples(st.sampled_from([0xE1, 0xE2, 0xE5, 0xED, 0xFE]), st.binary(max_size=20)), max_size=5),
    quality=st.integers(20, 95),
    options=st.sampled_from([{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}]),
    mode=st.sampled_from(["L", "RGB"]),
    tail=st.binary(max_size=30),
)
@settings(max_examples=60)
def test_stripping_a_jpeg_keeps_pixels_and_nothing_else(
    places: list[tuple[int, bytes]], quality: int, options: dict[str, int], mode: str, tail: bytes
) -> None:
    plain = encoded("JPEG", picture(mode), quality=quality, **options)
    said = b"".join(jpeg_segment(marker, body + MARKER) for marker, body in places)
    file = jpeg.strip(plain[:2] + said + plain[2:] + tail + MARKER)
    assert file.data == plain
    assert sum(file.found.values()) == len(places) + 1
    assert jpeg.strip(plain).data is plain


@given(
    places=st.lists(
        st.tuples(st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"prIv", b"tIME", b"iCCP"]), st.binary(max_size=20)),
        max_size=5,
    ),
    mode=st.sampled_from(["L", "RGB", "P", "LA", "RGBA", "1", "I;16"]),
    tail=st.binary(max_size=30),
)
@settings(max_examples=60)
def test_stripping_a_png_keeps_pixels_and_nothing_else(
    places: list[tuple[bytes, bytes]], mode: str, tail: bytes
) -> None:
    plain = encoded("PNG", picture(mode))
    said = b"".join(png_chunk(kind, body + MARKER) for kind, body in places)
    file = png.strip(plain[:33] + said + plain[33:] + tail + MARKER)
    assert MARKER not in file.data
    assert np.array_equal(pixels(file.data), pixels(plain))
    assert sum(file.found.values()) == len(places) + 1
