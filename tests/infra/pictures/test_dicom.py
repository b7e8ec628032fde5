"""DICOM bytes to pictures and facts: encodings, display, what is told of a picture; on files made here."""

from __future__ import annotations

import base64
import io
import json
import warnings
from typing import Any

import numpy as np
import pytest
from made_dicom import as_bytes, data_set
from PIL import Image
from pydicom.dataset import Dataset
from reading_dicom import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    J2K,
    JPEG,
    KEY,
    OP,
    PREFIX,
    RLE,
    SC,
    THREES,
    US,
    pydicom_meta_end,
    ramp,
    read,
    shown,
)

from medgr2.infra.pictures.dicom_pixels import codestream_size
from medgr2.infra.pictures.reading import RefusedError


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
