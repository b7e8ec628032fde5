"""Ingest: every file is accounted for, nobody's name comes in, and the second time is free."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from ingest_helpers import KEY, hospital, label, picture, settings
from PIL import Image

from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.schemas.reports import StageReport
from medgr2.tasks.ingest import ingest


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(settings(tmp_path))


def take(workspace: Workspace, folder: Path, labels: Path | None = None) -> StageReport:
    return ingest(workspace, folder, labels, run="test", announce=lambda plan: None)


def test_good_and_bad_files_are_all_accounted_for(workspace: Workspace, tmp_path: Path) -> None:
    files = {
        "a.png": picture(1), "deep/b.jpg": picture(2, kind="JPEG"), "cut.png": picture(3)[:60], "empty.png": b"",
        "text.png": b"not a picture", "tiny.png": picture(4, (8, 8)), "stray.png": picture(5), "odd.png": picture(6),
        "alien.dcm": b"\0" * 128 + b"DICM",
    }  # fmt: skip
    rows = [label(name) for name in files if name not in ("stray.png", "odd.png")]
    rows.append(label("odd.png", modality="Crystal ball"))
    report = take(workspace, hospital(tmp_path / "in", rows, files))
    assert report.plan.found == 9
    assert (report.accepted, report.rejected, report.failed) == (2, 3, 4)
    assert report.reasons == {"undecodable": 4, "too_small": 1, "no_label": 1, "unknown_modality": 1}
    stored = workspace.lake.read("images").to_pylist()
    assert {row["media_type"] for row in stored} == {"image/png", "image/jpeg"}
    assert all(workspace.images.path(row["image_id"]).read_bytes() in files.values() for row in stored)


def test_a_bomb_is_refused_by_its_header(workspace: Workspace, tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    report = take(workspace, hospital(tmp_path / "in", [label("bomb.png")], {"bomb.png": out.getvalue()}))
    assert report.reasons == {"too_many_pixels": 1}


def test_the_second_time_costs_nothing_and_changes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    folder = hospital(
        tmp_path / "in", [label(f"{n}.png") for n in range(5)], {f"{n}.png": picture(n) for n in range(5)}
    )
    assert take(workspace, folder).plan.new == 5
    before = workspace.lake.read("images").to_pylist()
    again = take(workspace, folder)
    assert (again.plan.new, again.plan.reused, again.accepted) == (0, 5, 5)
    assert workspace.lake.read("images").to_pylist() == before


def test_an_edited_picture_is_another_image(workspace: Workspace, tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [label("a.png")], {"a.png": picture(1)})
    take(workspace, folder)
    (folder / "a.png").write_bytes(picture(2))
    assert take(workspace, folder).plan.new == 1
    assert workspace.lake.read("images").num_rows == 2


def test_no_name_of_a_patient_or_file_is_stored(workspace: Workspace, tmp_path: Path) -> None:
    row = label("Miller_melanoma.png", patient_id="MILLER^ANNA", finding="mass")
    take(workspace, hospital(tmp_path / "Miller" / "in", [row], {"Miller_melanoma.png": picture(1)}))
    (stored,) = workspace.lake.read("images").to_pylist()
    assert len(stored["patient_key"]) == 64
    assert stored["labels"] == '{"finding": "mass"}'
    root = Path(workspace.settings.storage.root)
    holding = [p for p in root.rglob("*") if p.is_file() and b"miller" in p.read_bytes().lower()]
    assert holding == []
    assert not any("miller" in str(p.relative_to(root)).lower() for p in root.rglob("*"))


def test_the_patient_hash_needs_the_key(tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [label("a.png")], {"a.png": picture(1)})
    keys = []
    for number, key in enumerate((KEY, KEY, "another key of enough length")):
        there = tmp_path / str(number)
        workspace = open_workspace(settings(there, MEDGR2_PRIVACY__PATIENT_KEY=key))
        take(workspace, folder)
        keys.append(workspace.lake.read("images")["patient_key"][0].as_py())
    assert keys[0] == keys[1] != keys[2]


def test_a_patient_cannot_sit_on_both_sides(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        label("a.png", patient_id="x", split="train"),
        label("b.png", patient_id="x", split="heldout"),
        label("c.png", patient_id="y", split="train"),
    ]
    files = {name: picture(n) for n, name in enumerate(("a.png", "b.png", "c.png"))}
    assert take(workspace, hospital(tmp_path / "in", rows, files)).reasons == {"patient_in_both_splits": 2}
    later = hospital(tmp_path / "later", [label("d.png", patient_id="y", split="heldout")], {"d.png": picture(9)})
    assert take(workspace, later).reasons == {"patient_in_both_splits": 1}
    assert workspace.lake.read("images").num_rows == 1


def test_one_picture_with_two_labels_is_held_back(workspace: Workspace, tmp_path: Path) -> None:
    rows = [label("a.png", patient_id="p", finding="mass"), label("b.png", patient_id="p", finding="normal")]
    report = take(workspace, hospital(tmp_path / "in", rows, {"a.png": picture(1), "b.png": picture(1)}))
    assert report.reasons["contradicting_labels"] == 1


def test_a_label_that_changed_is_said_and_changes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    take(workspace, hospital(tmp_path / "in", [label("a.png", modality="CT")], {"a.png": picture(1)}))
    before = workspace.lake.read("images").to_pylist()
    for more in ({"modality": "MRI"}, {"report": "seen again"}, {"patient_id": "another"}, {"finding": "mass"}):
        again = hospital(tmp_path / "again", [label("a.png", **more)], {"a.png": picture(1)})
        assert take(workspace, again).reasons == {"labelled_otherwise_before": 1}
    assert workspace.lake.read("images").to_pylist() == before


def test_without_a_split_column_patients_are_split_for_ever(tmp_path: Path) -> None:
    files = {f"{n}.png": picture(n) for n in range(60)}
    rows = [label(name, split="", patient_id=f"p{n // 2}") for n, name in enumerate(files)]
    seen = []
    for there in ("one", "two"):
        workspace = open_workspace(settings(tmp_path / there))
        take(workspace, hospital(tmp_path / "in", rows, files))
        seen.append({row["image_id"]: row["split"] for row in workspace.lake.read("images").to_pylist()})
        by_patient: dict[str, set[str]] = {}
        for row in workspace.lake.read("images").to_pylist():
            by_patient.setdefault(row["patient_key"], set()).add(row["split"])
        assert all(len(splits) == 1 for splits in by_patient.values())
    assert seen[0] == seen[1]
    assert set(seen[0].values()) == {"train", "heldout"}


def test_bad_labels_say_what_and_where(workspace: Workspace, tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [], {"a.png": picture(1)})
    with pytest.raises(NotFoundError, match=r"no labels file"):
        take(workspace, folder, tmp_path / "none.csv")
    (folder / "labels.csv").write_text("name,kind\na.png,CT\n")
    with pytest.raises(DataError, match="no column file and no column modality"):
        take(workspace, folder)
    (folder / "labels.csv").write_text("a.png,CT,Jane Doe\n")
    with pytest.raises(DataError) as headless:
        take(workspace, folder)
    assert "3 columns" in str(headless.value)
    assert "Jane" not in str(headless.value)
    (folder / "labels.csv").write_bytes(b"file,modality\n\xff\xfe,CT\n")
    with pytest.raises(DataError, match="not UTF-8"):
        take(workspace, folder)
    (folder / "labels.csv").write_text("file,modality\n,CT\n")
    with pytest.raises(DataError, match="without a file name") as found:
        take(workspace, folder)
    assert "line 2" in found.value.where


def test_real_images(workspace: Workspace) -> None:
    kit = Path(__file__).resolve().parents[3] / "shared" / "data" / "realkit"
    if not kit.is_dir():
        pytest.skip(f"the real test images are not at {kit}")
    report = take(workspace, kit)
    assert report.conserved()
    with (kit / "labels.csv").open(newline="") as f:
        contents = {row["sha256"] for row in csv.DictReader(f)}
    assert report.plan.found == report.accepted == len(contents), report.reasons
    assert {row["image_id"] for row in workspace.lake.read("images", columns=["image_id"]).to_pylist()} == contents
