from __future__ import annotations

import gzip
import importlib.util
from collections import Counter

import pytest
from made_pictures import MARKER, dicom, encoded, nifti, picture, pixels
from PIL import Image

from medgr2.infra.pictures import burned_in, reader
from medgr2.infra.pictures.reading import Contents, Frame, UnreadableError
from medgr2.infra.pseudonyms import Pseudonyms
from medgr2.schemas.errors import MissingExtraError
from medgr2.schemas.intake import ReadingRules

PSEUDONYMS = Pseudonyms(b"0123456789abcdef0123456789abcdef")
RULES = ReadingRules()
needs_pydicom = pytest.mark.skipif(not importlib.util.find_spec("pydicom"), reason="the dicom extra is not installed")
needs_nibabel = pytest.mark.skipif(not importlib.util.find_spec("nibabel"), reason="the dicom extra is not installed")


def a_reader(rules: ReadingRules = RULES) -> reader.Reader:
    return reader.Reader(rules, PSEUDONYMS)


def reason(data: bytes, rules: ReadingRules = RULES) -> str:
    with pytest.raises(UnreadableError) as e:
        a_reader(rules).read(data, ".jpg")
    return e.value.reason


class FakeFinder:
    """Paints the left half if the picture is red in its first pixel; blue ones cannot be cleaned."""

    def clean(self, image: Image.Image) -> tuple[Image.Image, int, bool]:
        red, _, blue = image.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
        if blue > 200:
            return image, 3, False
        if red < 200:
            return image, 0, True
        painted = image.copy()
        painted.paste(0, (0, 0, image.width // 2, image.height))
        return painted, 2, True


def marked(colour: tuple[int, int, int]) -> Image.Image:
    image = picture()
    image.putpixel((0, 0), colour)
    return image


RED, BLUE, PLAIN = marked((255, 0, 0)), marked((0, 0, 255)), marked((0, 0, 0))


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burned_in, "available", lambda: True)
    monkeypatch.setattr(burned_in, "TextFinder", FakeFinder)


def film(monkeypatch: pytest.MonkeyPatch, *frames: Image.Image, risky: bool = False) -> None:
    parts = [Frame(image, f"frame {n}") for n, image in enumerate(frames, 1)]
    contents = Contents(parts, patient="Jane Doe", study="1.2.3", risky=risky, found=Counter({"dicom:PatientName": 1}))
    monkeypatch.setattr(reader, "read_raster", lambda *_: contents)


def test_a_plain_picture() -> None:
    data = encoded("JPEG")
    read = a_reader().read(data, ".jpg")
    [one] = read.pictures
    assert one.data is data
    assert (one.width, one.height, one.media_type, one.part, one.burned_in) == (48, 40, "image/jpeg", "", "unchecked")
    assert one.fingerprint
    assert (read.patient, read.study) == ("", "")


def test_stored_pngs_are_the_same_bytes_every_time_and_hold_no_words() -> None:
    tiff = encoded("TIFF", tiffinfo={270: MARKER.decode()}, dpi=(300, 300))
    [first] = a_reader().read(tiff, ".tif").pictures
    [second] = a_reader().read(encoded("TIFF", compression="tiff_lzw"), ".tif").pictures
    assert first.data == second.data
    assert first.media_type == "image/png"
    assert MARKER not in first.data
    assert b"pHYs" not in first.data
    assert (pixels(first.data) == pixels(tiff)).all()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (encoded("WEBP", exif=b"Exif\x00\x00" + MARKER, xmp=MARKER, icc_profile=MARKER), {"exif", "xmp", "icc"}),
        (encoded("GIF", picture("P"), comment=MARKER), {"comment"}),
        (encoded("TIFF", tiffinfo={270: MARKER.decode(), 700: MARKER}), {"tiff:ImageDescription", "xmp"}),
        (encoded("BMP") + MARKER, set()),
        (encoded("PNG") + MARKER, {"trailing"}),
        (encoded("JPEG", comment=MARKER), {"comment"}),
    ],
    ids=["webp", "gif", "tiff", "bmp", "png", "jpeg"],
)
def test_nothing_said_beside_the_pixels_is_stored(data: bytes, found: set[str]) -> None:
    assert MARKER in data
    read = a_reader().read(data, "")
    assert MARKER not in read.pictures[0].data
    assert MARKER.decode() not in repr(read)
    assert set(read.found) == found


def test_patients_leave_only_as_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    film(monkeypatch, PLAIN)
    read = a_reader().read(encoded("PNG"), "")
    assert read.patient == PSEUDONYMS.code("patient", "Jane Doe")
    assert read.study == PSEUDONYMS.code("study", "1.2.3")
    assert read.found == {"dicom:PatientName": 1}


def test_blank_and_small_parts_are_left_out_of_a_film(monkeypatch: pytest.MonkeyPatch) -> None:
    blank = Image.new("RGB", (48, 40), (3, 3, 3))
    film(monkeypatch, blank, PLAIN, picture(size=(48, 8)))
    read = a_reader().read(encoded("PNG"), "")
    assert [p.part for p in read.pictures] == ["frame 2"]
    assert read.left_out == {"blank": 1, "too_small": 1}
    film(monkeypatch, blank, blank)
    assert reason(encoded("PNG")) == "blank"
    film(monkeypatch)
    assert reason(encoded("PNG")) == "no_pixels"


def test_blank_pictures_are_refused() -> None:
    for mode, colour in (("L", 0), ("L", 255), ("RGB", (9, 80, 3))):
        assert reason(encoded("PNG", Image.new(mode, (64, 64), colour))) == "blank"
    noisy = Image.effect_noise((64, 64), 1)
    assert reason(encoded("JPEG", noisy, quality=20)) == "blank"
    one_spot = Image.new("L", (64, 64))
    one_spot.putpixel((33, 21), 60)
    assert a_reader().read(encoded("PNG", one_spot), ".png").pictures


@pytest.mark.usefixtures("finder")
def test_text_is_masked_or_its_picture_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    film(monkeypatch, RED, BLUE, PLAIN, risky=True)
    read = a_reader().read(encoded("PNG"), "")
    assert [(p.part, p.burned_in) for p in read.pictures] == [("frame 1", "masked"), ("frame 3", "none")]
    assert read.left_out == {"burned_in_text": 1}
    assert pixels(read.pictures[0].data)[:, :24].max() == 0
    quarantine = ReadingRules(burned_in="quarantine")
    assert [p.part for p in a_reader(quarantine).read(encoded("PNG"), "").pictures] == ["frame 3"]
    film(monkeypatch, BLUE, RED, risky=True)
    assert reason(encoded("PNG"), quarantine) == "burned_in_text"
    film(monkeypatch, BLUE, risky=True)
    assert reason(encoded("PNG")) == "burned_in_text"
    assert a_reader(ReadingRules(burned_in="off")).read(encoded("PNG"), "").pictures[0].burned_in == "unchecked"


@pytest.mark.usefixtures("finder")
def test_plain_pictures_are_looked_at_when_the_rules_say_so() -> None:
    data = encoded("PNG", RED)
    assert a_reader().read(data, ".png").pictures[0].burned_in == "unchecked"
    everywhere = a_reader(ReadingRules(burned_in_everywhere=True))
    [painted] = everywhere.read(data, ".png").pictures
    assert painted.burned_in == "masked"
    assert painted.data != data
    plain = encoded("PNG", PLAIN)
    [kept] = everywhere.read(plain, ".png").pictures
    assert (kept.burned_in, kept.data) == ("none", plain)


@pytest.mark.usefixtures("finder")
def test_the_header_claims_clean_pixels_only_where_text_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for rules, codes in ((ReadingRules(burned_in="off"), ["113100"]), (ReadingRules(), ["113100", "113101"])):
        header = {"deidentified": {"codes": ["113100"]}}
        contents = Contents([Frame(PLAIN), Frame(RED)], header=header, risky=True)
        monkeypatch.setattr(reader, "read_raster", lambda *_, contents=contents: contents)
        assert a_reader(rules).read(encoded("PNG"), "").header["deidentified"]["codes"] == codes


def test_risky_pictures_nobody_could_look_at_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burned_in, "available", lambda: False)
    film(monkeypatch, PLAIN, risky=True)
    assert reason(encoded("PNG")) == "burned_in_text_not_checked"


@needs_pydicom
def test_dicom_with_and_without_preamble() -> None:
    whole, bare = (a_reader().read(data, "") for data in (dicom(), dicom()[132:]))
    assert whole.modality == "CT"
    assert whole.patient not in ("", "MRN-4711")
    assert whole.patient == bare.patient
    assert whole.pictures[0].data == bare.pictures[0].data
    assert (whole.pictures[0].width, whole.pictures[0].height) == (48, 40)
    assert MARKER.decode() not in repr((whole, bare))


@needs_nibabel
def test_nifti_plain_and_packed() -> None:
    plain, packed = (a_reader().read(data, "") for data in (nifti(), gzip.compress(nifti())))
    assert len(plain.pictures) == 3
    assert [p.data for p in plain.pictures] == [p.data for p in packed.pictures]


def test_what_is_no_picture_is_told_apart() -> None:
    assert reason(b"") == "empty"
    for data in (b"x", b"\x08", b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(50), gzip.compress(b"hello" * 99), b"PK\x03\x04"):
        assert reason(data) == "not_an_image"


def test_decoders_that_fail_in_ways_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> Contents:
        raise RecursionError(MARKER.decode())

    monkeypatch.setattr(reader, "read_raster", failing)
    with pytest.raises(UnreadableError) as e:
        a_reader().read(encoded("PNG"), "")
    assert (e.value.reason, e.value.detail) == ("undecodable", "RecursionError")

    def missing(*_: object) -> Contents:
        raise MissingExtraError("no", next_command="pip install x")

    monkeypatch.setattr(reader, "read_raster", missing)
    with pytest.raises(MissingExtraError):
        a_reader().read(encoded("PNG"), "")
