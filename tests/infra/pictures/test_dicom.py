"""DICOM bytes to pictures: encodings, display, facts, limits; on files made here and on the awkward 32."""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_dicom import as_bytes, data_set
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from medgr2.infra.pictures.dicom import read_dicom
from medgr2.infra.pictures.dicom_pixels import codestream_size
from medgr2.infra.pictures.reading import BrokenError, Contents, RefusedError, UnreadableError
from medgr2.infra.pseudonyms import Pseudonyms
from medgr2.schemas.errors import MissingExtraError
from medgr2.schemas.intake import ReadingRules

KEY = Pseudonyms(b"0123456789abcdef")
AWKWARD = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "dicom"
ROWS = list(csv.DictReader((AWKWARD / "index.csv").open())) if (AWKWARD / "index.csv").exists() else []
awkward = pytest.mark.skipif(not ROWS, reason="../shared/data/dicom is not there")

RLE, J2K, J2K_LOSSY = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
JPEG, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
PREFIX, EXPLICIT = b"\0" * 128 + b"DICM", "1.2.840.10008.1.2.1"
IMPLICIT, JPEG_LS, JPEG_LOSSLESS = "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70"
SC, US, CT, OP = (f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("7", "6.1", "2", "77.1.5.1"))


def read(data: bytes, **rules: Any) -> Contents:
    return read_dicom(data, ReadingRules(**rules), KEY)


def outcome(data: bytes, **rules: Any) -> Contents | UnreadableError:
    try:
        return read(data, **rules)
    except UnreadableError as e:
        return e


def shown(data: bytes, frame: int = 0, **rules: Any) -> np.ndarray[Any, Any]:
    return np.asarray(read(data, **rules).frames[frame].image)


def ramp(low: int = 0, high: int = 4095, kind: str = "u2") -> np.ndarray[Any, Any]:
    return np.linspace(low, high, 64 * 48).round().astype(kind).reshape(48, 64)


# The awkward files.

EXPECTED_TO_FAIL = {
    "emri_small_jpeg_2k_lossless_too_short.dcm": (BrokenError, "truncated"),
    "liver.dcm": (RefusedError, "not_a_picture"),
    "liver_deflate.dcm": (RefusedError, "not_a_picture"),
    "parametric_map_float.dcm": (RefusedError, "not_a_picture"),
}
SQUARED = {"color-px.dcm": (256, 160), "color-pl.dcm": (256, 160)}
"""Their PixelAspectRatio is 4:3."""
MODALITIES = {"CT": "CT", "MR": "MRI", "US": "Ultrasound", "CR": "X-Ray"}


@awkward
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_every_awkward_file_is_a_picture_or_has_its_reason(row: dict[str, str]) -> None:
    data = (AWKWARD / row["file"]).read_bytes()
    if row["file"] in EXPECTED_TO_FAIL:
        kind, reason = EXPECTED_TO_FAIL[row["file"]]
        with pytest.raises(kind) as refused:
            read(data)
        assert refused.value.reason == reason
        return
    contents = read(data)
    shape = [int(n) for n in row["decoded_shape"].strip("()").split(",") if n.strip()]
    frames = int(row["frames"])
    rows, columns = shape[1:3] if frames > 1 else shape[:2]
    colour = shape[-1] == 3 or row["photometric"] == "PALETTE COLOR"
    assert len(contents.frames) == min(frames, 3)
    for frame in contents.frames:
        assert frame.image.size == SQUARED.get(row["file"], (columns, rows))
        assert frame.image.mode == ("RGB" if colour else "L")
        assert frame.original is None
        assert len(np.unique(np.asarray(frame.image))) > 3
    assert contents.modality == MODALITIES.get(row["modality"])
    assert contents.patient.endswith(row["patient_id"])
    assert contents.risky or row["modality"] not in {"US", "OT", ""}


@awkward
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_nothing_of_the_patient_is_in_the_header_or_in_what_was_found(row: dict[str, str]) -> None:
    result = outcome((AWKWARD / row["file"]).read_bytes())
    if isinstance(result, UnreadableError):
        told = [str(result)]
    else:
        assert result.header["deidentified"]["codes"]
        # Digits of a pseudonym may hold a short number by chance, and a keyword a word of the language.
        told = [str(value) for name, value in result.header.items() if not name.endswith("UID")]
        told += list(result.found)
    for column in ("patient_name", "patient_id", "birth_date", "institution", "study_date", "study_description"):
        for part in {row[column], *(row[column].split("^") if column == "patient_name" else [])}:
            if part.strip():
                assert part not in told
                assert len(part) < 4 or not any(part in one for one in told if not one.startswith("dicom:")), column


@awkward
def test_the_same_scan_in_six_encodings_is_the_same_picture() -> None:
    names = ["emri_small", "emri_small_RLE", "emri_small_jpeg_ls_lossless", "emri_small_jpeg_2k_lossless"]
    pictures = {
        tuple(frame.image.tobytes() for frame in read((AWKWARD / f"{name}.dcm").read_bytes()).frames)
        for name in [*names, "emri_small_big_endian"]
    }
    assert len(pictures) == 1


@awkward
@pytest.mark.parametrize("name", ["MR2_J2KR", "RG1_J2KI", "bad_sequence", "mlut_18", "vlut_04"])
def test_grey_pictures_are_what_pydicoms_own_pipeline_shows(name: str) -> None:
    path = AWKWARD / f"{name}.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path)
        full = apply_voi_lut(apply_modality_lut(pixel_array(ds), ds), ds).astype(float)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        full = -full
    ours = shown(path.read_bytes()).astype(float)
    assert np.corrcoef(full.ravel(), ours.ravel())[0, 1] > 0.99


@awkward
@pytest.mark.parametrize("name", ["OBXXXX1A_expb", "gdcm-US-ALOKA-16"])
def test_palettes_are_what_pydicoms_own_pipeline_shows(name: str) -> None:
    ds = pydicom.dcmread(AWKWARD / f"{name}.dcm")
    colours = apply_color_lut(pixel_array(ds), ds)
    if colours.max() > 255:
        colours = colours >> 8
    assert np.array_equal(shown((AWKWARD / f"{name}.dcm").read_bytes()), colours)


@awkward
def test_overlays_are_not_drawn() -> None:
    path = AWKWARD / "MR-SIEMENS-DICOM-WithOverlays.dcm"
    ds = pydicom.dcmread(path)
    without = pydicom.dcmread(path)
    for tag in [tag for tag in without if tag.tag.group == 0x6000]:
        del without[tag.tag]
    assert np.array_equal(shown(path.read_bytes()), shown(as_bytes(without)))
    assert ds.overlay_array(0x6000).any()


@awkward
def test_a_file_that_denies_its_burned_in_text_is_not_believed() -> None:
    contents = read((AWKWARD / "JPGLosslessP14SV1_1s_1f_8b.dcm").read_bytes())
    assert contents.risky


# Encodings.


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_native_encodings_show_the_same(syntax: str) -> None:
    ds = data_set(ramp(), BitsStored=12, HighBit=11)
    want = shown(as_bytes(ds))
    other = data_set(ramp().astype(">u2") if syntax == BIG_ENDIAN else ramp(), BitsStored=12, HighBit=11)
    assert np.array_equal(shown(as_bytes(other, syntax)), want)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_a_data_set_alone_is_read_as_it_can_be(syntax: str) -> None:
    pixels = ramp().astype(">u2") if syntax == BIG_ENDIAN else ramp()
    whole = as_bytes(data_set(pixels), syntax)
    assert np.array_equal(shown(PREFIX + whole[pydicom_meta_end(whole) :]), shown(whole))


def test_run_lengths() -> None:
    ds = data_set(ramp(), BitsStored=12, HighBit=11)
    want = shown(as_bytes(ds))
    ds.compress(RLE)
    assert np.array_equal(shown(as_bytes(ds, RLE)), want)


def test_compressed_colours() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (32, 40, 3), dtype=np.uint8)
    ds = data_set(pixels, SOPClassUID=SC)
    ds.compress(J2K)
    assert np.array_equal(shown(as_bytes(ds, J2K)), pixels)


THREES = {
    JPEG_LS: "/9j/9wALCAAIAAgBAREA/9oACAEBAAAAAJV6+0ACMm0mAAlVoe/yz/Kv4o/k38D/2Q==",
    JPEG_LOSSLESS: "/9j/wwALCAAIAAgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAgUI/9oACAEBAAEAAM/tttuw2227DbbbsNttuw2227"
    "DbbbsNttuw222//9k=",
}
"""8 x 8, the multiples of three: nothing at hand writes these encodings."""


@pytest.mark.parametrize("syntax", list(THREES))
def test_lossless_encodings_give_every_value_back(syntax: str) -> None:
    pixels = (np.arange(64, dtype=np.uint8) * 3).reshape(8, 8)
    stream = base64.b64decode(THREES[syntax])
    assert codestream_size(stream) == (8, 8)
    assert np.array_equal(shown(as_bytes(data_set(pixels), syntax, [stream])), pixels)


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "RGB"])
def test_jpeg_colours_come_out_right_even_when_the_header_is_wrong(photometric: str) -> None:
    bars = np.zeros((32, 48, 3), np.uint8)
    bars[:, :16], bars[:, 16:32], bars[:, 32:] = (200, 20, 20), (20, 200, 20), (20, 20, 200)
    out = io.BytesIO()
    Image.fromarray(bars).save(out, "JPEG", quality=95, subsampling=0)
    ds = data_set(bars, SOPClassUID=SC, PhotometricInterpretation=photometric)
    got = shown(as_bytes(ds, JPEG, [out.getvalue()]))
    for column in (4, 20, 44):
        assert np.abs(got[16, column].astype(int) - bars[16, column]).max() < 12


def test_ybr_full_becomes_rgb() -> None:
    red = np.tile(np.array([76, 85, 255], np.uint8), (8, 8, 1))
    assert shown(as_bytes(data_set(red, PhotometricInterpretation="YBR_FULL")))[4, 4].tolist() == [254, 0, 0]


def test_sixteen_bit_colours_are_scaled() -> None:
    pixels = np.full((8, 8, 3), (65535, 32768, 0), np.uint16)
    assert shown(as_bytes(data_set(pixels)))[0, 0].tolist() == [255, 128, 0]


def test_a_palette_is_applied() -> None:
    index = np.tile(np.arange(4, dtype=np.uint8), (4, 1))
    ds = data_set(index, PhotometricInterpretation="PALETTE COLOR")
    for name, values in (("Red", [0, 255, 0, 9]), ("Green", [0, 0, 255, 9]), ("Blue", [7, 0, 0, 9])):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", (np.array(values, "u2") * 257).tobytes())
    assert shown(as_bytes(ds))[0].tolist() == [[0, 0, 7], [255, 0, 0], [0, 255, 0], [9, 9, 9]]


def test_an_encoding_nobody_knows_is_named() -> None:
    data = as_bytes(data_set()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    with pytest.raises(RefusedError) as refused:
        read(data)
    assert refused.value.reason == "unsupported_encoding"


# Display.


def test_monochrome1_is_inverted() -> None:
    light = shown(as_bytes(data_set(ramp())))
    dark = shown(as_bytes(data_set(ramp(), PhotometricInterpretation="MONOCHROME1")))
    assert np.array_equal(dark, 255 - light)
    assert light[0, 0] < 10 < 245 < light[-1, -1]


def test_the_first_window_is_used_on_rescaled_values() -> None:
    ds = data_set(ramp(0, 2048), SOPClassUID=CT, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    ds.WindowCenter, ds.WindowWidth = [40, 500], [400, 2000]
    got = shown(as_bytes(ds)).ravel()
    measured = ramp(0, 2048).ravel().astype(int) - 1024
    assert (got[measured <= -160] == 0).all()
    assert (got[measured >= 240] == 255).all()
    assert abs(int(got[np.argmin(np.abs(measured - 40))]) - 128) <= 1


@pytest.mark.parametrize(("center", "width"), [("1e30", "0"), ("nan", "nan"), ("-30000", "10"), ("500", "-5")])
def test_a_senseless_window_gives_way_to_robust_ends(center: str, width: str) -> None:
    ds = data_set(ramp())
    ds.add_new("WindowCenter", "LO", center)
    ds.add_new("WindowWidth", "LO", width)
    data = as_bytes(ds)
    got = shown(data)
    assert got.max() - got.min() > 250


def test_one_hot_pixel_does_not_make_a_picture_black() -> None:
    pixels = ramp(0, 1000)
    pixels[0, 0] = 65535
    got = shown(as_bytes(data_set(pixels)))
    assert got.std() > 50


def test_signed_values_and_padding() -> None:
    pixels = ramp(-1000, 1000, "i2")
    pixels[:24] = -32768
    ds = data_set(pixels, SOPClassUID=CT, Modality="CT", RescaleSlope=1, RescaleIntercept=0)
    ds.add_new("PixelPaddingValue", "SS", -32768)
    got = shown(as_bytes(ds))
    assert got[:24].max() == 0
    assert got[24:].std() > 50


def test_bits_beyond_those_stored_are_cleared() -> None:
    clean = ramp(0, 4095)
    dirty = clean.copy()
    dirty[10:20, 10:20] |= 0xF000
    plain, masked = (data_set(pixels, BitsStored=12, HighBit=11) for pixels in (clean, dirty))
    assert np.array_equal(shown(as_bytes(plain)), shown(as_bytes(masked)))


def test_eight_bits_without_a_window_stay_as_they_are() -> None:
    pixels = np.tile(np.arange(40, 104, dtype=np.uint8), (48, 1))
    assert np.array_equal(shown(as_bytes(data_set(pixels))), pixels)


def test_the_window_of_a_frame_is_its_own() -> None:
    film = np.stack([ramp(), ramp()])
    ds = data_set(film, NumberOfFrames=2)
    groups = []
    for center in (100, 4000):
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 50
        group = Dataset()
        group.FrameVOILUTSequence = [voi]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    data = as_bytes(ds)
    assert shown(data, 0).mean() > 240
    assert shown(data, 1).mean() < 20


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({"PixelSpacing": [2, 1]}, (64, 96)),
        ({"PixelAspectRatio": [1, 2]}, (128, 48)),
        ({"PixelSpacing": [1, 1], "PixelAspectRatio": [1, 2]}, (64, 48)),
        ({"PixelSpacing": [0, 1]}, (64, 48)),
        ({"PixelSpacing": [1000, 1]}, (64, 48)),
    ],
)
def test_pixels_are_made_square(values: dict[str, Any], size: tuple[int, int]) -> None:
    assert read(as_bytes(data_set(**values))).frames[0].image.size == size


def test_frames_are_spread_over_the_film() -> None:
    film = np.stack([np.full((16, 16), n, np.uint8) for n in range(100)])
    contents = read(as_bytes(data_set(film, NumberOfFrames=100)), frames=4)
    assert [frame.part for frame in contents.frames] == [f"frame {n} of 100" for n in (13, 38, 63, 88)]
    assert [frame.image.getpixel((0, 0)) for frame in contents.frames] == [12, 37, 62, 87]


# Facts.


@pytest.mark.parametrize(
    ("values", "modality"),
    [
        ({"Modality": "DX"}, "X-Ray"),
        ({"Modality": "MG"}, "X-Ray"),
        ({"Modality": "", "SOPClassUID": CT}, "CT"),
        ({"Modality": "OP", "SOPClassUID": OP}, "Fundus Photography"),
        ({"Modality": "OP", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.4"}, "OCT"),
        ({"Modality": "XC", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.7"}, "Dermoscopy"),
        ({"Modality": "SM"}, "Microscopy"),
        ({"Modality": "NM"}, None),
        ({"Modality": "OT", "SOPClassUID": SC}, None),
        ({"Modality": "SMITH^JOHN"}, None),
    ],
)
def test_modalities_are_told_in_our_words(values: dict[str, str], modality: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read(as_bytes(data_set(**values))).modality == modality


def test_a_photograph_of_the_front_of_the_eye_is_no_fundus_picture() -> None:
    device = Dataset()
    device.CodeMeaning = "Slit Lamp"
    ds = data_set(SOPClassUID=OP, Modality="OP", AcquisitionDeviceTypeCodeSequence=[device])
    assert read(as_bytes(ds)).modality is None


@pytest.mark.parametrize(
    ("text", "anatomy"),
    [("CHEST", "chest"), ("CSPINE", "cervical spine"), ("Whole Body", "whole body"), ("MR X", None)],
)
def test_only_known_parts_of_the_body_pass(text: str, anatomy: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read(as_bytes(data_set(BodyPartExamined=text))).anatomy == anatomy


def test_the_region_sequence_serves_where_the_body_part_is_missing() -> None:
    region = Dataset()
    region.CodeMeaning = "Breast"
    assert read(as_bytes(data_set(AnatomicRegionSequence=[region]))).anatomy == "breast"


@pytest.mark.parametrize(
    ("number", "issuer", "patient"),
    [
        ("MRN-4711", None, "MRN-4711"),
        (" MRN-4711 ", "Mercy", "Mercy|MRN-4711"),
        ("Anonymized", "Mercy", ""),
        ("", None, ""),
        ("---", None, ""),
    ],
)
def test_a_patient_is_an_id_with_its_issuer(number: str, issuer: str | None, patient: str) -> None:
    ds = data_set(PatientID=number)
    if issuer:
        ds.IssuerOfPatientID = issuer
    contents = read(as_bytes(ds))
    assert contents.patient == patient
    assert contents.study == "1.2.3.4"


@pytest.mark.parametrize(
    ("values", "risky"),
    [
        ({}, False),
        ({"BurnedInAnnotation": "YES"}, True),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, True),
        ({"ImageType": ["DERIVED", "SECONDARY"], "BurnedInAnnotation": "NO"}, False),
        ({"Modality": "US", "SOPClassUID": US, "BurnedInAnnotation": "NO"}, True),
        ({"SOPClassUID": SC, "BurnedInAnnotation": "NO"}, True),
        ({"Modality": "ES"}, True),
        ({"Modality": "CR", "ConversionType": "DF"}, True),
    ],
)
def test_kinds_that_carry_text_are_risky(values: dict[str, Any], risky: bool) -> None:
    assert read(as_bytes(data_set(**values))).risky is risky


def test_the_header_is_clean_and_the_count_complete() -> None:
    ds = data_set(PatientBirthDate="19500112", StudyDate="20040826", PatientAge="054Y", PatientSex="F")
    contents = read(as_bytes(ds))
    assert contents.header["PatientAge"] == "50-59"
    assert contents.header["PatientSex"] == "F"
    assert contents.header["StudyInstanceUID"] == KEY.uid("1.2.3.4")
    text = json.dumps(contents.header)
    for secret in ("Beispiel", "Erika", "4711", "19500112", "20040826"):
        assert secret not in text
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyInstanceUID"):
        assert contents.found[f"dicom:{keyword}"] == 1


# Refused and broken.


@pytest.mark.parametrize(
    "number", ["66.4", "66.7", "30", "88.11", "88.59", "11.1", "104.1", "481.2", "481.3", "9.1.1", "67"]
)
def test_what_is_no_picture_is_refused_by_its_kind(number: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read(as_bytes(data_set(SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{number}")))
    assert refused.value.reason == "not_a_picture"


def test_the_label_of_a_slide_is_refused() -> None:
    ds = data_set(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6", Modality="SM", ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    )
    with pytest.raises(RefusedError) as refused:
        read(as_bytes(ds))
    assert refused.value.reason == "not_a_picture"


def test_without_pixels() -> None:
    ds = data_set(PixelData=None, Rows=None)
    with pytest.raises(RefusedError) as refused:
        read(as_bytes(ds))
    assert refused.value.reason == "no_pixels"


def test_a_cut_file_is_truncated() -> None:
    whole = as_bytes(data_set())
    with pytest.raises(BrokenError) as broken:
        read(whole[: len(whole) // 2])
    assert broken.value.reason in {"truncated", "undecodable"}


def test_too_many_pixels_are_refused_from_the_header() -> None:
    ds = data_set(Rows=60000, Columns=60000)
    with pytest.raises(RefusedError) as refused:
        read(as_bytes(ds))
    assert refused.value.reason == "too_many_pixels"


def test_a_compressed_stream_larger_than_its_header_says_is_refused() -> None:
    out = io.BytesIO()
    Image.new("L", (3000, 3000)).save(out, "JPEG")
    ds = data_set(np.zeros((48, 64), np.uint8))
    with pytest.raises(RefusedError) as refused:
        read(as_bytes(ds, JPEG, [out.getvalue()]), max_pixels=1_000_000)
    assert refused.value.reason == "too_many_pixels"


@pytest.mark.parametrize("syntax", list(THREES))
def test_a_compressed_stream_of_another_size_does_not_reach_the_decoder(syntax: str) -> None:
    ds = data_set(np.zeros((48, 64), np.uint8))
    with pytest.raises(BrokenError) as broken:
        read(as_bytes(ds, syntax, [base64.b64decode(THREES[syntax])]))
    assert broken.value.detail == "its compressed stream has another size than its header"


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_the_size_of_a_compressed_stream(kind: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (123, 45)).save(out, kind)
    assert codestream_size(out.getvalue()) == (123, 45)
    assert codestream_size(out.getvalue()[:8]) is None
    assert codestream_size(b"\0" * 64) is None


@pytest.mark.parametrize("count", [2, 10**9, -1])
def test_a_lie_about_the_frames_is_broken(count: int) -> None:
    with pytest.raises(BrokenError):
        read(as_bytes(data_set(NumberOfFrames=count)))


def test_a_deflate_bomb_is_not_inflated() -> None:
    data = as_bytes(data_set(), DEFLATED)
    plain = as_bytes(data_set())
    head = data[: pydicom_meta_end(data)]
    body = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = body.compress(plain[pydicom_meta_end(plain) :] + bytes(50_000_000)) + body.flush()
    assert len(bomb) < 100_000
    with pytest.raises(RefusedError) as refused:
        read(head + bomb, max_bytes=1_000_000)
    assert refused.value.reason == "too_large"


def pydicom_meta_end(data: bytes) -> int:
    # Group length element: 132 bytes of prefix, 8 of tag, VR and length, then the number.
    return 144 + int.from_bytes(data[140:144], "little")


def test_a_huge_declared_length_is_broken() -> None:
    data = bytearray(as_bytes(data_set()))
    at = data.index(b"\xe0\x7f\x10\x00OW")
    data[at + 8 : at + 12] = b"\xf0\xff\xff\xff"
    with pytest.raises(BrokenError):
        read(bytes(data[: at + 20]))


def test_a_thousand_nested_sequences_are_survived() -> None:
    start = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    plain = as_bytes(data_set())
    data = plain[: pydicom_meta_end(plain)] + start * 20_000
    with pytest.raises(BrokenError):
        read(data)


def test_no_value_of_the_header_escapes(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    data = as_bytes(data_set()).replace(b"MRN-4711", b"MRN-47\xff\xfe")
    data = data.replace(b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00LO\x02\x00")
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        result = outcome(data)
    assert isinstance(result, BrokenError)
    assert result.__context__ is None
    told = str(result) + caplog.text + "".join(capfd.readouterr()) + "".join(str(one.message) for one in warned)
    assert "MRN" not in told
    assert "Erika" not in told


@pytest.mark.parametrize("junk", [b"", b"DICM", PREFIX, b"\0" * 4000, PREFIX + b"\xff" * 99])
def test_junk_is_broken(junk: bytes) -> None:
    with pytest.raises(BrokenError):
        read(junk)


BASE = as_bytes(data_set(WindowCenter=100, WindowWidth=50, RescaleSlope=1, RescaleIntercept=0))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 7000))
def test_a_damaged_file_is_a_picture_or_has_a_reason(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(BASE)
    for place, byte in changes:
        data[place % len(data)] = byte
    result = outcome(bytes(data[: len(data) - cut]), max_pixels=1_000_000)
    if isinstance(result, UnreadableError):
        assert result.reason
    else:
        assert result.frames
        json.dumps(result.header, allow_nan=False)


def test_without_the_extra_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dicom_pixels", "dicom_header", "deidentify"):
        monkeypatch.delitem(sys.modules, f"medgr2.infra.pictures.{name}")
    monkeypatch.setitem(sys.modules, "dicomanonymizer.simpledicomanonymizer", None)
    with pytest.raises(MissingExtraError) as missing:
        read(BASE)
    assert "pip install" in str(missing.value)
