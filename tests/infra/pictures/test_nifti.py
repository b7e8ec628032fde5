"""NIfTI bytes to slices: which, which way up, in which greys, and how little is inflated."""

from __future__ import annotations

import gzip
import json
import sys
import tracemalloc
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgr2.infra.pictures.choice import evenly, within_the_middle
from medgr2.infra.pictures.nifti import read_nifti
from medgr2.infra.pictures.reading import BrokenError, Contents, RefusedError, UnreadableError
from medgr2.schemas.errors import MissingExtraError
from medgr2.schemas.intake import ReadingRules

SECRET = b"Hohenzollern"


def read(data: bytes, **rules: Any) -> Contents:
    return read_nifti(data, ReadingRules(**rules))


def volume(axes: str = "RAS", shape: tuple[int, ...] = (20, 24, 30)) -> Any:
    """Noise with a bright block at the patient's right, front and top, stored along `axes`."""
    values = np.random.default_rng(0).integers(0, 400, shape).astype(np.int16)
    values[-6:, -6:, -6:] = 3000
    image = nib.Nifti1Image(values, np.eye(4))
    wanted = nib.orientations.axcodes2ornt(axes)
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))


def file_of(values: np.ndarray[Any, Any], zooms: tuple[float, ...] = (1, 1, 1)) -> bytes:
    return bytes(nib.Nifti1Image(values, np.diag([-zooms[0], -zooms[1], zooms[2], 1])).to_bytes())


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PSR", "ASL", "RSA", "LIA", "SRP", "IPL"])
@pytest.mark.parametrize("zipped", [False, True])
def test_right_and_front_and_top_are_where_a_radiologist_expects_them(axes: str, zipped: bool) -> None:
    data = volume(axes).to_bytes()
    contents = read(gzip.compress(data) if zipped else data, frames=100)
    bright = [np.argwhere(np.asarray(frame.image) > 250) for frame in contents.frames]
    places = [
        points.mean(axis=0) / frame.image.size[::-1]
        for points, frame in zip(bright, contents.frames, strict=True)
        if len(points) > 30
    ]
    assert places
    # Axial: right to the left, front up. Coronal: right to the left, top up. Sagittal: front to the left, top up.
    for row, column in places:
        assert row < 0.3
        assert column < 0.3


def test_slices_lie_evenly_in_the_middle() -> None:
    contents = read(volume(shape=(20, 24, 100)).to_bytes(), frames=3)
    assert [frame.part for frame in contents.frames] == ["slice 24 of 100", "slice 51 of 100", "slice 77 of 100"]


@given(st.integers(1, 2000), st.integers(1, 50))
def test_the_choice_is_distinct_ordered_and_within(count: int, wanted: int) -> None:
    for chosen in (evenly(count, wanted), within_the_middle(count, wanted)):
        assert chosen == sorted(set(chosen))
        assert 0 <= chosen[0] <= chosen[-1] < count
    assert len(evenly(count, wanted)) == min(wanted, count)
    assert len(within_the_middle(count, wanted)) == min(wanted, count - 2 * (count // 10))
    assert within_the_middle(count, wanted)[0] >= count // 10
    assert within_the_middle(count, wanted)[-1] < count - count // 10


def test_a_stretched_slice_is_made_square() -> None:
    values = np.random.default_rng(0).integers(0, 400, (40, 40, 5)).astype(np.int16)
    assert read(file_of(values, (1, 3, 1))).frames[0].image.size == (40, 120)
    assert read(file_of(values, (3, 1, 1))).frames[0].image.size == (120, 40)


def test_hounsfield_padding_does_not_eat_the_greys() -> None:
    values = np.random.default_rng(0).integers(-100, 100, (32, 32, 4)).astype(np.int16)
    values[:8] = -3024
    picture = np.asarray(read(file_of(values)).frames[0].image)
    assert len(np.unique(picture)) > 20


def test_a_negative_slope_inverts() -> None:
    values = np.random.default_rng(0).integers(0, 1000, (16, 16, 3)).astype(np.int16)
    plain = nib.Nifti1Image(values, np.eye(4))
    turned = bytearray(plain.to_bytes())
    header = plain.header.copy()
    header["scl_slope"], header["scl_inter"] = -1, 1000
    turned[:348] = header.binaryblock
    want = np.asarray(read(plain.to_bytes()).frames[0].image).astype(int)
    got = np.asarray(read(bytes(turned)).frames[0].image).astype(int)
    assert np.abs(255 - want - got).max() <= 1


def test_colour_and_time() -> None:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours = np.zeros((16, 16, 5), kind)
    colours["G"] = 200
    frame = read(bytes(nib.Nifti1Image(colours, np.eye(4)).to_bytes())).frames[0]
    assert frame.image.getpixel((3, 3)) == (0, 200, 0)
    values = np.random.default_rng(0).integers(0, 1000, (16, 16, 5, 7)).astype(np.float32)
    assert len(read(file_of(values)).frames) == 3


def test_nibabel_agrees_on_the_values_of_big_endian_and_second_version_files() -> None:
    values = np.random.default_rng(0).normal(size=(16, 16, 3)).astype(np.float32)
    want = np.asarray(read(file_of(values)).frames[1].image)
    second = nib.Nifti2Image(values, np.diag([-1, -1, 1, 1]))
    assert np.array_equal(np.asarray(read(bytes(second.to_bytes())).frames[1].image), want)
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">f4"))
    big = nib.Nifti1Image(values, np.diag([-1, -1, 1, 1]), header)
    assert np.array_equal(np.asarray(read(bytes(big.to_bytes())).frames[1].image), want)


def test_free_text_is_counted_and_dropped() -> None:
    image = volume()
    image.header["descrip"] = SECRET
    image.header["db_name"] = SECRET
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRET))
    contents = read(image.to_bytes())
    assert set(contents.found) == {"nifti:descrip", "nifti:db_name", "nifti:extension"}
    assert SECRET.decode() not in json.dumps(contents.header)
    assert contents.header["axes"] == "RAS"
    assert contents.patient == ""


@pytest.mark.parametrize("intent", [0, 1002])
def test_maps_of_labels_are_no_pictures(intent: int) -> None:
    image = nib.Nifti1Image(np.random.default_rng(0).integers(0, 5, (16, 16, 9)).astype(np.uint8), np.eye(4))
    image.header["intent_code"] = intent
    with pytest.raises(RefusedError) as refused:
        read(image.to_bytes())
    assert refused.value.reason == "not_a_picture"


def test_numbers_nobody_can_show_are_refused() -> None:
    with pytest.raises(RefusedError) as refused:
        read(file_of(np.ones((16, 16, 3), np.complex64)))
    assert refused.value.reason == "unsupported_encoding"


def test_a_header_without_its_data_is_refused() -> None:
    data = volume().to_bytes().replace(b"n+1\0", b"ni1\0")
    with pytest.raises(RefusedError) as refused:
        read(data)
    assert refused.value.reason == "unsupported_encoding"


def test_limits_come_before_the_data() -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_data_shape((30000, 30000, 3))
    with pytest.raises(RefusedError) as refused:
        read(gzip.compress(header.binaryblock + bytes(1000)))
    assert refused.value.reason == "too_many_pixels"
    header.set_data_shape((512, 512, 32000))
    with pytest.raises(RefusedError) as refused:
        read(gzip.compress(header.binaryblock + bytes(1000)))
    assert refused.value.reason == "too_large"


def test_a_bomb_behind_a_small_volume_is_left_alone() -> None:
    data = volume().to_bytes()
    bomb = gzip.compress(data + bytes(400 << 20), 1)
    tracemalloc.start()
    try:
        contents = read(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(contents.frames) == 3
    assert peak < 20 << 20


def test_several_gzip_members_are_one_file() -> None:
    data = volume().to_bytes()
    parts = gzip.compress(data[:5000]) + gzip.compress(data[5000:])
    assert [f.image.tobytes() for f in read(parts).frames] == [f.image.tobytes() for f in read(data).frames]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_a_cut_file_is_truncated(share: float) -> None:
    for data in (volume().to_bytes(), gzip.compress(volume().to_bytes())):
        with pytest.raises(BrokenError) as broken:
            read(data[: int(len(data) * share)])
        assert broken.value.reason in {"truncated", "undecodable"}


BASE = file_of(np.random.default_rng(0).integers(0, 400, (12, 12, 6)).astype(np.int16))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 360), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_a_damaged_file_is_a_picture_or_has_a_reason(changes: list[tuple[int, int]], zipped: bool) -> None:
    data = bytearray(BASE)
    for place, byte in changes:
        data[place] = byte
    try:
        contents: Contents | None = read(gzip.compress(bytes(data), 1) if zipped else bytes(data), max_pixels=1_000_000)
    except UnreadableError:
        contents = None
    if contents is not None:
        assert contents.frames
        json.dumps(contents.header, allow_nan=False)


def test_without_the_extra_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtraError) as missing:
        read(BASE)
    assert "pip install" in str(missing.value)
