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

from medgr2.infra.pictures.deidentify import deidentify, shifted
from medgr2.infra.pictures.dicom_header import kept_header
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


def test_a_birth_date_is_not_even_moved() -> None:
    ds = Dataset()
    ds.PatientBirthDate = "19500112"
    assert deidentify(ds, KEY, "patient")["dicom:PatientBirthDate"] == 1
    assert "PatientBirthDate" not in ds


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
