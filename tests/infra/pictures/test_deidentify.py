"""What a header may keep, what must go, and that what goes is counted and not told."""

from __future__ import annotations

import datetime
import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset

from medgr2.infra.pictures.deidentify import age_band, deidentify, kept_header, shifted
from medgr2.infra.pseudonyms import Pseudonyms

KEY = Pseudonyms(b"0123456789abcdef")
SECRET = "Hohenzollern"
TEXTS = [
    *("PatientName", "PatientID", "PatientAddress", "InstitutionName", "ReferringPhysicianName", "StudyDescription"),
    *("AccessionNumber", "SeriesDescription", "ImageComments", "PatientComments", "OperatorsName", "StationName"),
    *("ProtocolName", "OtherPatientNames", "RequestedProcedureDescription", "AdmittingDiagnosesDescription"),
    *("PatientTelephoneNumbers", "DeviceSerialNumber"),
]


def nested(depth: int) -> Dataset:
    ds = Dataset()
    ds.PatientName = SECRET
    if depth:
        ds.ContentSequence = [nested(depth - 1)]
        ds.ReferencedImageSequence = [nested(0)]
    return ds


def test_every_text_of_the_profile_is_gone_from_every_level() -> None:
    ds = Dataset()
    for keyword in TEXTS:
        setattr(ds, keyword, SECRET)
    inner = Dataset()
    inner.PatientName = SECRET
    inner.InstitutionName = SECRET
    inner.add_new((0x0009, 0x0010), "LO", SECRET)
    inner.add_new((0x0009, 0x1001), "LO", SECRET)
    outer = Dataset()
    outer.FrameAnatomySequence = [inner]
    ds.SharedFunctionalGroupsSequence = [outer]
    ds.add_new((0x0011, 0x0010), "LO", SECRET)
    ds.add_new((0x0011, 0x1001), "LO", SECRET)
    ds.add_new((0x6000, 0x3000), "OW", b"\1\2" * 8)
    ds.add_new((0x5000, 0x3000), "OW", b"\1\2" * 8)
    found = deidentify(ds, KEY, "patient")
    assert SECRET not in str(ds)
    assert SECRET not in json.dumps(kept_header(ds))
    assert (0x6000, 0x3000) not in ds
    assert (0x5000, 0x3000) not in ds
    place = "dicom:SharedFunctionalGroupsSequence.FrameAnatomySequence."
    assert found[f"{place}PatientName"] == 1
    assert found[f"{place}private"] == 1
    assert found["dicom:private"] == 1
    assert found["dicom:OverlayData"] == 1
    assert found["dicom:StudyDescription"] == 1
    assert SECRET not in str(found)


def test_empty_values_are_not_reported() -> None:
    ds = Dataset()
    ds.PatientName = ""
    ds.PatientID = ""
    ds.PatientBirthDate = ""
    assert not deidentify(ds, KEY, "patient")


def test_uids_keep_their_references() -> None:
    one, other = Dataset(), Dataset()
    one.SOPInstanceUID, one.StudyInstanceUID = "1.2.3", "1.2"
    other.SOPInstanceUID, other.StudyInstanceUID = "1.2.4", "1.2"
    one.file_meta = FileMetaDataset()
    one.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    deidentify(one, KEY, "patient")
    deidentify(other, KEY, "patient")
    assert one.StudyInstanceUID == other.StudyInstanceUID == KEY.uid("1.2")
    assert one.SOPInstanceUID == one.file_meta.MediaStorageSOPInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID


DAYS = st.dates(datetime.date(1920, 1, 1), datetime.date(2100, 1, 1))


@given(DAYS, DAYS, st.text(min_size=1))
def test_intervals_between_dates_of_a_patient_stay(first: datetime.date, second: datetime.date, patient: str) -> None:
    ds = Dataset()
    ds.StudyDate, ds.SeriesDate = f"{first:%Y%m%d}", f"{second:%Y%m%d}"
    deidentify(ds, KEY, patient)
    moved = [datetime.datetime.strptime(value, "%Y%m%d").date() for value in (ds.StudyDate, ds.SeriesDate)]
    assert moved[0] - moved[1] == first - second
    assert (moved[0] - first).days == KEY.days(patient)


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("20200110", "20200109"),
        ("20200301", "20200229"),
        ("20200110123456.789+0100", "20200109"),
        ("1994.11.05", None),
        ("20201341", None),
        ("2020", None),
        ("born 1950", None),
        ("00010101", None),
        ("20200110 Hohenzollern", None),
        ("", None),
    ],
)
def test_only_full_real_dates_are_moved(text: str, moved: str | None) -> None:
    assert shifted(text, -1) == moved


def test_a_date_that_cannot_be_moved_is_removed() -> None:
    ds = Dataset()
    ds.add_new("StudyDate", "LO", "1994.11.05")
    assert deidentify(ds, KEY, "patient")["dicom:StudyDate"] == 1
    assert "StudyDate" not in ds


def test_times_and_persons_outside_of_the_table_go_too() -> None:
    ds = Dataset()
    ds.add_new("ContentTime", "TM", "101112")
    ds.add_new("EvaluatorName", "PN", SECRET)
    deidentify(ds, KEY, "patient")
    assert len(ds) == 0


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


def test_deep_nesting_is_cleaned_or_dropped() -> None:
    ds = nested(200)
    deidentify(ds, KEY, "patient")
    level, depth = ds, 0
    while "ContentSequence" in level:
        assert SECRET not in str(level.get("PatientName", ""))
        level, depth = level.ContentSequence[0], depth + 1
    assert SECRET not in str(level.get("PatientName", ""))


def test_the_table_is_the_one_named() -> None:
    module = importlib.util.find_spec("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")
    assert module is not None
    assert module.origin is not None
    assert Path(module.origin).exists()
