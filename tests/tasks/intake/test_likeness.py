"""Pictures that show the same: one split, one story, whoever brought them and however they were coded."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from ingest_helpers import hospital, label, picture, settings
from made_dicom import as_bytes, data_set
from PIL import Image, ImageOps

from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IngestReport
from medgr2.tasks.intake.audit import audit_splits
from medgr2.tasks.intake.ingest import ingest

SIZE = (96, 96)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(settings(tmp_path))


def original(number: int) -> bytes:
    return picture(number, SIZE)


def copy(number: int, *, mirror: bool = False, kind: str = "JPEG") -> bytes:
    """The same picture, coded again; perhaps mirrored."""
    image = Image.open(io.BytesIO(original(number)))
    out = io.BytesIO()
    (ImageOps.mirror(image) if mirror else image).save(out, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return out.getvalue()


def take(workspace: Workspace, folder: Path) -> IngestReport:
    quiet = lambda plan: None  # noqa: E731
    report = ingest(workspace, str(folder), "", IntakeParameters(reports="keep"), run="test", announce=quiet)
    assert report.conserved()
    assert audit_splits(workspace).violations == 0
    return report


def splits(workspace: Workspace) -> dict[str, str]:
    return {row["origin"]: row["split"] for row in workspace.lake.read("images", ["origin", "split"]).to_pylist()}


def test_two_patients_who_share_a_picture_share_a_split(workspace: Workspace, tmp_path: Path) -> None:
    """Patients b0..b11 each have a picture of their own, and a copy of one of patient a<n>."""
    files, told = {}, []
    for n in range(12):
        for name, data, patient in (
            (f"a{n}.png", original(n), f"a{n}"), (f"b{n}.jpg", copy(n, mirror=n % 2 == 1), f"b{n}"),
            (f"own{n}.png", original(100 + n), f"b{n}"),
        ):  # fmt: skip
            files[name] = data
            told.append(label(name, split="", patient_id=patient))
    report = take(workspace, hospital(tmp_path / "in", told, files))
    assert (report.accepted, report.near_duplicates, report.near_duplicates_of_two_groups) == (36, 12, 12)
    where = splits(workspace)
    assert len(set(where.values())) > 1
    for n in range(12):
        assert len({where[sha256_hex(files[name])] for name in (f"a{n}.png", f"b{n}.jpg", f"own{n}.png")}) == 1


def test_a_copy_that_comes_later_follows_the_one_that_is_held(workspace: Workspace, tmp_path: Path) -> None:
    files = {f"{n}.png": original(n) for n in range(20)}
    take(workspace, hospital(tmp_path / "in", [label(name, split="") for name in files], files))
    before = splits(workspace)
    copies = {f"{n}.jpg": copy(n) for n in range(20)}
    take(workspace, hospital(tmp_path / "more", [label(name, split="") for name in copies], copies))
    after = splits(workspace)
    assert {one: after[one] for one in before} == before
    assert len(set(before.values())) > 1
    for n in range(20):
        assert after[sha256_hex(copies[f"{n}.jpg"])] == before[sha256_hex(files[f"{n}.png"])]


def test_copies_with_other_labels_are_both_held_back_until_they_agree(workspace: Workspace, tmp_path: Path) -> None:
    files = {"a.png": original(1), "b.jpg": copy(1), "c.png": original(2)}
    told = [label("a.png", diagnosis="mass"), label("b.jpg", diagnosis="normal"), label("c.png", diagnosis="normal")]
    folder = hospital(tmp_path / "in", told, files)
    report = take(workspace, folder)
    assert report.reasons == {"contradicts_near_duplicate": 2}
    rows = {row["origin"]: row for row in workspace.lake.read("images").to_pylist()}
    a, b = rows[sha256_hex(files["a.png"])], rows[sha256_hex(files["b.jpg"])]
    assert (a["split"], b["split"]) == ("quarantined", "quarantined")
    assert (a["against"], b["against"]) == (b["image_id"], a["image_id"])
    hospital(folder, [*told[:1], label("b.jpg", diagnosis="mass"), told[2]], {})
    freed = take(workspace, folder)
    assert (freed.accepted, freed.reasons, freed.plan.new, freed.added) == (3, {}, 0, 0)
    rows = {row["origin"]: row for row in workspace.lake.read("images").to_pylist()}
    assert {row["split"] for row in rows.values()} == {"train"}
    assert {row["reason"] for row in rows.values()} == {row["against"] for row in rows.values()} == {None}
    assert json.loads(rows[sha256_hex(files["b.jpg"])]["labels"]) == {"diagnosis": "mass"}


def test_a_late_copy_with_another_label_takes_the_held_one_out_of_use(workspace: Workspace, tmp_path: Path) -> None:
    take(workspace, hospital(tmp_path / "in", [label("a.png", diagnosis="mass")], {"a.png": original(1)}))
    later = hospital(tmp_path / "later", [label("b.jpg", diagnosis="normal")], {"b.jpg": copy(1)})
    report = take(workspace, later)
    assert report.reasons == {"contradicts_near_duplicate": 1}
    assert set(splits(workspace).values()) == {"quarantined"}


def test_a_mirrored_copy_in_another_split_is_held_back(workspace: Workspace, tmp_path: Path) -> None:
    files = {"a.png": original(1), "b.jpg": copy(1, mirror=True)}
    take(workspace, hospital(tmp_path / "in", [label("a.png", split="train")], {"a.png": files["a.png"]}))
    told = [label("b.jpg", split="heldout")]
    report = take(workspace, hospital(tmp_path / "more", told, {"b.jpg": files["b.jpg"]}))
    assert report.reasons == {"near_duplicate_in_other_split": 1}
    assert splits(workspace) == {sha256_hex(files["a.png"]): "train", sha256_hex(files["b.jpg"]): "quarantined"}


def test_within_one_source_too_one_of_two_explicit_splits_is_held_back(workspace: Workspace, tmp_path: Path) -> None:
    files = {"a.png": original(1), "b.jpg": copy(1, mirror=True)}
    told = [label("a.png", split="train"), label("b.jpg", split="test")]
    report = take(workspace, hospital(tmp_path / "in", told, files))
    assert report.reasons == {"near_duplicate_in_other_split": 1}
    assert sorted(splits(workspace).values()).count("quarantined") == 1


def test_frames_of_one_film_look_alike_and_all_stay(workspace: Workspace, tmp_path: Path) -> None:
    grey = np.asarray(Image.open(io.BytesIO(original(1))).convert("L"))
    film = np.stack([grey, np.roll(grey, 1, 1), grey[::-1]])
    folder = hospital(
        tmp_path / "in", [label("film.dcm", modality="MRI")], {"film.dcm": as_bytes(data_set(film, NumberOfFrames=3))}
    )
    report = take(workspace, folder)
    assert (report.accepted, report.pictures, report.near_duplicates) == (1, 3, 0)
    rows = workspace.lake.read("images").to_pylist()
    assert len({row["split"] for row in rows}) == len({row["patient_key"] for row in rows}) == 1
    assert {row["part"] for row in rows} == {f"frame {n} of 3" for n in (1, 2, 3)}
    other = hospital(tmp_path / "other", [label("x.png", modality="CT", split="heldout")], {"x.png": png(grey)})
    assert take(workspace, other).reasons == {"contradicts_near_duplicate": 1}


def png(grey: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "PNG")
    return out.getvalue()
