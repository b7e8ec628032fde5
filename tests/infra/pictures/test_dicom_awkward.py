"""The awkward 32: each is a picture or has its reason, as other readers show it, and nothing of the patient is told."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_dicom import as_bytes
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from reading_dicom import outcome, read, shown

from medgr2.infra.pictures.reading import BrokenError, RefusedError, UnreadableError

AWKWARD = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "dicom"
ROWS = list(csv.DictReader((AWKWARD / "index.csv").open())) if (AWKWARD / "index.csv").exists() else []
awkward = pytest.mark.skipif(not ROWS, reason="../shared/data/dicom is not there")

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
