"""DICOM bytes that are no picture, too large or damaged: each has its reason and tells nothing of the patient."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_dicom import as_bytes, data_set
from PIL import Image
from reading_dicom import DEFLATED, JPEG, PREFIX, THREES, outcome, pydicom_meta_end, read

from medgr2.infra.pictures.dicom_pixels import codestream_size
from medgr2.infra.pictures.reading import BrokenError, RefusedError, UnreadableError
from medgr2.schemas.errors import MissingExtraError


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


@settings(max_examples=150)
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
