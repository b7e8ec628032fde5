"""Only technical values pass, and only as what they should be."""

from __future__ import annotations

import json

import pytest
from pydicom.dataset import Dataset

from medgr2.infra.pictures.deidentify import deidentify
from medgr2.infra.pictures.dicom_header import age_band, kept_header
from medgr2.infra.pseudonyms import Pseudonyms

KEY = Pseudonyms(b"0123456789abcdef")
SECRET = "Hohenzollern"


def test_free_text_does_not_pass_under_a_technical_name() -> None:
    ds = Dataset()
    ds.add_new("Modality", "LO", SECRET)
    ds.add_new("BodyPartExamined", "LO", f"CHEST of {SECRET}")
    ds.add_new("PatientSex", "LO", SECRET)
    ds.add_new("SliceThickness", "LO", SECRET)
    ds.add_new("KVP", "LO", "19500112")
    ds.add_new("ViewPosition", "LO", ["AP", SECRET])
    assert set(kept_header(ds)) == {"deidentified"}


def test_an_original_uid_or_name_never_passes_even_uncleaned() -> None:
    ds = Dataset()
    ds.StudyInstanceUID = "1.2.840.113619.2.1"
    assert set(kept_header(ds)) == {"deidentified"}


def test_a_header_keeps_what_is_technical() -> None:
    ds = Dataset()
    ds.Modality, ds.BodyPartExamined, ds.PixelSpacing, ds.KVP = "CT", "CSPINE", [0.5, 0.5], "120"
    ds.StudyDate, ds.ViewPosition = "20200110", "AP"
    deidentify(ds, KEY, "patient")
    header = kept_header(ds)
    assert header["BodyPartExamined"] == "cervical spine"
    assert header["PixelSpacing"] == [0.5, 0.5]
    assert (header["Modality"], header["KVP"], header["ViewPosition"]) == ("CT", 120.0, "AP")
    assert header["StudyDate"] not in ("", "20200110")
    assert header["deidentified"]["codes"] == ["113100", "113107", "113108"]
    assert header["deidentified"]["library"].startswith("dicom-anonymizer ")
    json.dumps(header, allow_nan=False)


@pytest.mark.parametrize(
    ("age", "band"), [("047Y", "40-49"), ("089Y", "80-89"), ("090Y", "90+"), ("103Y", "90+"), ("006M", "0-9")]
)
def test_ages_are_told_by_decade(age: str, band: str) -> None:
    assert age_band(age) == band


@pytest.mark.parametrize("age", ["", "47", "47 years", "999Y", "Hohenzollern"])
def test_no_age_is_made_of_something_else(age: str) -> None:
    assert age_band(age) is None
