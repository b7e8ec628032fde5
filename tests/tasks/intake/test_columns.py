"""Columns: the mapping a person gave, the usual names, and what stays outside."""

from __future__ import annotations

import pytest

from medgr2.schemas.errors import DataError, UsageError
from medgr2.tasks.intake.columns import NAMES, SYNONYMS, Columns


def chosen(*present: str, mapped: tuple[str, ...] = (), keep: tuple[str, ...] = ()) -> dict[str, str]:
    return Columns.of(mapped, keep).choose(present, "labels.csv").taken


def test_the_usual_names_are_found_whatever_their_case() -> None:
    found = chosen("Image Index", "Finding Labels", "Patient ID", "Body-Part", "License")
    assert found == {
        "file": "Image Index", "diagnosis": "Finding Labels", "patient_id": "Patient ID", "anatomy": "Body-Part",
        "licence": "License",
    }  # fmt: skip


def test_no_usual_name_means_two_of_ours() -> None:
    words = [word for ours in NAMES for word in (ours, *SYNONYMS[ours])]
    assert len(words) == len(set(words))


def test_our_own_name_wins_over_a_usual_one() -> None:
    assert chosen("path", "File", "label", "diagnosis") == {"file": "File", "diagnosis": "diagnosis"}


def test_two_usual_names_are_an_error_that_names_both() -> None:
    with pytest.raises(DataError, match="'label' and 'dx' could each be our column diagnosis") as raised:
        chosen("file", "label", "dx")
    assert "--column diagnosis=label" in raised.value.next_command
    assert chosen("file", "label", "dx", mapped=("diagnosis=dx",)) == {"file": "file", "diagnosis": "dx"}
    assert chosen("file", "label", "dx", mapped=("diagnosis=",)) == {"file": "file"}


def test_a_mapping_and_what_is_kept() -> None:
    result = Columns.of(["diagnosis = Befund", "file=Bild"], ["Site"]).choose(
        ["Bild", "Befund", "Site", "PatientName", ""], "labels.csv"
    )
    assert result.taken == {"file": "Bild", "diagnosis": "Befund", "Site": "Site"}
    assert (result.kept, result.left_out) == (("Site",), ("PatientName",))


@pytest.mark.parametrize(
    ("texts", "message"),
    [(["diagnosis"], "is no column mapping"), (["diagnosys=Dx"], "did you mean diagnosis"),
     (["grade=a", "grade=b"], "mapped twice")],
)  # fmt: skip
def test_a_mapping_that_makes_no_sense(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Columns.of(texts)
    assert message in str(raised.value)


@pytest.mark.parametrize("kept", ["Patient ID", "group", "img"])
def test_nothing_that_identifies_is_kept_as_it_stands(kept: str) -> None:
    with pytest.raises(UsageError, match="never comes in as it stands"):
        chosen(
            "img", "Patient ID", "group", mapped=("file=img", "patient_id=Patient ID", "group_id=group"), keep=(kept,)
        )


def test_a_missing_column_says_which_there_are() -> None:
    with pytest.raises(DataError, match="no column file") as raised:
        chosen("modality", "Diagnosis")
    assert "'modality', 'Diagnosis'" in raised.value.where
    with pytest.raises(DataError, match=r"no column 'Diagnose'.*did you mean Diagnosis"):
        chosen("file", "Diagnosis", mapped=("diagnosis=Diagnose",))


def test_a_file_without_a_header_does_not_show_its_first_patient() -> None:
    with pytest.raises(DataError) as raised:
        chosen("a.png", "CT", "Jane Doe")
    assert "Jane" not in str(raised.value)
    assert "3 columns" in str(raised.value)
    with pytest.raises(DataError) as raised:
        chosen("a.png", "CT", "Jane Doe", mapped=("file=image",))
    assert "Jane" not in str(raised.value)


def test_all_columns_that_name_the_patient_are_found_and_none_of_them_is_taken() -> None:
    there = ("file", "Report", "Last Name", "first_name", "Patient's Name", "site")
    result = Columns.of([]).choose(there, "labels.csv")
    assert result.taken == {"file": "file", "report": "Report"}
    assert result.naming == ("Last Name", "first_name", "Patient's Name")
    assert result.left_out == ("Last Name", "first_name", "Patient's Name", "site")
    assert Columns.of(["patient_name=site"]).choose(there, "labels.csv").naming == ("site",)
    assert Columns.of(["patient_name="]).choose(there, "labels.csv").naming == ()
    assert Columns.of(["diagnosis=first_name"]).choose(there, "labels.csv").naming == ("Last Name", "Patient's Name")


def test_a_name_is_never_stored() -> None:
    with pytest.raises(UsageError, match="a patient_name never comes in") as raised:
        chosen("file", "Name", keep=("name",))
    assert "--column patient_name=" in raised.value.next_command
    assert chosen("file", "Name", mapped=("patient_name=",), keep=("name",)) == {"file": "file", "Name": "Name"}
    with pytest.raises(UsageError, match="a name never comes in"):
        chosen("file", "pn", mapped=("patient_name=pn", "diagnosis=pn"))
    assert chosen("file", "pn", mapped=("patient_name=pn", "patient_id=pn")) == {"file": "file", "patient_id": "pn"}
    with pytest.raises(DataError, match="no column 'Nmae', which was mapped to patient_name"):
        chosen("file", "pn", mapped=("patient_name=Nmae",))
