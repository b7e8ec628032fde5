"""One patient under two numbers: what binds them is found in pictures, and outlives the run that saw it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from ingest_helpers import hospital, label, picture, settings
from made_pictures import nifti
from PIL import Image, PngImagePlugin

from medgr2.infra.lake import Amendment
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IngestReport
from medgr2.tasks.intake.audit import audit_splits
from medgr2.tasks.intake.ingest import ingest

COLUMNS = ["file", "modality", "patient_id", "group_id", "split", "diagnosis"]
TORN = "no patient, study or group in two splits"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(settings(tmp_path))


def take(workspace: Workspace, folder: Path, rows: list[dict[str, str]], files: dict[str, bytes]) -> IngestReport:
    hospital(folder, rows, files, COLUMNS)
    return ingest(workspace, str(folder), "", IntakeParameters(), run="r", announce=lambda _plan: None)


def splits(workspace: Workspace) -> list[str]:
    return sorted(workspace.lake.read("images", ["split"])["split"].to_pylist())


def violations(workspace: Workspace) -> dict[str, int]:
    return {check.name: check.violations for check in audit_splits(workspace).checks if check.violations}


def noted(data: bytes) -> bytes:
    """The same picture with a remark: other bytes come in, the same are stored."""
    remark = PngImagePlugin.PngInfo()
    remark.add_text("k", "v")
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).save(out, "PNG", pnginfo=remark)
    return out.getvalue()


def test_the_same_file_under_another_patient_binds_both(workspace: Workspace, tmp_path: Path) -> None:
    take(workspace, tmp_path / "a", [label("x.png", patient_id="P1")], {"x.png": picture(1)})
    take(workspace, tmp_path / "b", [label("x.png", patient_id="R7", split="")], {"x.png": picture(1)})
    last = take(workspace, tmp_path / "c", [label("n.png", patient_id="P1", split="heldout")], {"n.png": picture(5)})
    assert last.reasons == {"patient_in_both_splits": 1}
    assert splits(workspace) == ["quarantined", "train"]


def test_a_copy_that_is_refused_still_binds_its_patient(workspace: Workspace, tmp_path: Path) -> None:
    take(workspace, tmp_path / "a", [label("x.png", patient_id="P1")], {"x.png": picture(1)})
    copy = take(workspace, tmp_path / "b", [label("x.png", patient_id="R7", split="")], {"x.png": noted(picture(1))})
    assert copy.reasons == {"duplicate": 1}
    last = take(workspace, tmp_path / "c", [label("n.png", patient_id="R7", split="heldout")], {"n.png": picture(50)})
    assert last.reasons == {"patient_in_both_splits": 1}


def test_a_corrected_number_unbinds_the_wrong_one(workspace: Workspace, tmp_path: Path) -> None:
    rows = [label("0.png", patient_id="wrong"), label("1.png", patient_id="P1", split="heldout")]
    take(workspace, tmp_path / "a", rows, {"0.png": picture(0), "1.png": picture(1)})
    rows[0]["patient_id"] = "right"
    take(workspace, tmp_path / "a", rows, {})
    later = take(
        workspace, tmp_path / "b", [label("2.png", patient_id="wrong", split="heldout")], {"2.png": picture(2)}
    )
    assert (later.accepted, violations(workspace)) == (1, {})


def test_an_image_that_turns_out_to_be_of_a_held_out_patient_is_used_no_more(
    workspace: Workspace, tmp_path: Path
) -> None:
    rows = [label("0.png", patient_id="P0"), label("1.png", patient_id="P1", split="heldout")]
    take(workspace, tmp_path / "a", rows, {"0.png": picture(0), "1.png": picture(1)})
    rows[0]["patient_id"] = "P1"
    again = take(workspace, tmp_path / "a", rows, {})
    assert again.reasons == {"patient_in_both_splits": 1}
    assert (splits(workspace), violations(workspace)) == (["heldout", "quarantined"], {})


def test_the_audit_knows_what_a_quarantined_picture_tells(workspace: Workspace, tmp_path: Path) -> None:
    rows = [label("0.png", patient_id="P0"), label("1.png", patient_id="", group_id="G", split="heldout")]
    take(workspace, tmp_path / "a", rows, {"0.png": picture(0), "1.png": picture(1)})
    assert violations(workspace) == {}
    both = [label("2.png", patient_id="P0", group_id="G", split="")]
    assert take(workspace, tmp_path / "b", both, {"2.png": picture(2)}).rejected == 1
    assert violations(workspace) == {TORN: 1}


def test_no_time_of_a_file_is_stored(workspace: Workspace, tmp_path: Path) -> None:
    """An export keeps the day of the examination as the time of its file."""
    take(workspace, tmp_path / "a", [label("x.png")], {"x.png": picture(1)})
    found = (tmp_path / "a" / "x.png").stat()
    (row,) = workspace.lake.read("files").to_pylist()
    assert not any(str(time) in str(row) for time in (found.st_mtime_ns, int(found.st_mtime)))
    # The few digits of an inode stand in some hash by chance: it may be no word of its own.
    told = " ".join(str(value) for name, value in row.items() if name not in ("seen_at", "size"))
    assert str(found.st_ino) not in re.findall(r"[0-9A-Za-z]+", told)
    assert take(workspace, tmp_path / "a", [label("x.png", diagnosis="mass")], {}).plan.new == 0


def scan(number: int, **header: str) -> bytes:
    from made_dicom import as_bytes, data_set

    grey = np.asarray(Image.open(io.BytesIO(picture(number))).convert("L")).astype(np.uint16) * 16
    uids = {f"{kind}InstanceUID": f"1.2.{number}.{n}" for n, kind in enumerate(("Study", "Series", "SOP"), start=1)}
    return as_bytes(data_set(grey, StudyDate="20200110", **uids, **header))


def test_a_number_is_the_same_patients_with_and_without_its_issuer(workspace: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="needs the extra [dicom]")
    bare = {f"{n}.dcm": scan(n, PatientID=f"MRN{n}") for n in range(20)}
    issued = {f"{n}i.dcm": scan(100 + n, PatientID=f"MRN{n}", IssuerOfPatientID="HOSP") for n in range(20)}
    take(workspace, tmp_path / "a", [label("elsewhere.png")], bare | issued)
    rows = {row["origin"]: row for row in workspace.lake.read("images").to_pylist()}
    for n in range(20):
        one, other = (rows[sha256_hex(files[name])] for files, name in ((bare, f"{n}.dcm"), (issued, f"{n}i.dcm")))
        assert one["split"] == other["split"]
        assert json.loads(one["header"])["StudyDate"] == json.loads(other["header"])["StudyDate"]


def test_labels_and_headers_speak_of_the_same_patients(workspace: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="needs the extra [dicom]")
    scans = {f"{n}.dcm": scan(n, PatientID=f"MRN{n}") for n in range(20)}
    photos = {f"{n}.png": picture(100 + n) for n in range(20)}
    rows = [label(name, patient_id=f"MRN{name[:-4]}", split="") for name in photos]
    take(workspace, tmp_path / "a", rows, scans | photos)
    split = {row["origin"]: row["split"] for row in workspace.lake.read("images").to_pylist()}
    for n in range(20):
        assert split[sha256_hex(scans[f"{n}.dcm"])] == split[sha256_hex(photos[f"{n}.png"])]
    assert len(set(split.values())) > 1


def volume(number: int) -> bytes:
    """A file of four slices that look like nothing else, and that names nobody."""
    voxels = np.random.default_rng(number).integers(0, 4000, (4, 24, 32)).astype("<i2")
    return nifti()[:352] + voxels.tobytes()


def test_the_slices_of_a_file_that_names_nobody_share_a_split(workspace: Workspace, tmp_path: Path) -> None:
    files = {f"{n}.nii": volume(n) for n in range(16)}
    take(workspace, tmp_path / "a", [label(name, patient_id="", split="") for name in files], files)
    rows = workspace.lake.read("images", ["origin", "split"]).to_pylist()
    of_file: dict[str, set[str]] = {}
    for row in rows:
        of_file.setdefault(row["origin"], set()).add(row["split"])
    assert len(rows) > len(of_file) == 16
    assert {len(found) for found in of_file.values()} == {1}
    assert len(set.union(*of_file.values())) > 1, "not all in one split"
    assert violations(workspace) == {}


def test_slices_that_an_older_release_tore_apart_are_told(workspace: Workspace, tmp_path: Path) -> None:
    take(workspace, tmp_path / "a", [label("v.nii", patient_id="")], {"v.nii": volume(1)})
    (first, *_) = workspace.lake.read("images").to_pylist()
    workspace.lake.amend(
        "images", lambda _held: Amendment(replaces=True, parts=[[{**first, "split": "heldout"}]]), key="image_id"
    )
    assert violations(workspace) == {TORN: 1}
