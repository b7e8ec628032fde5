"""Ingest: every file is accounted for, nobody's name comes in, and the second time is free."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from ingest_helpers import KEY, hospital, label, picture, settings
from PIL import Image

from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.errors import DataError, NightStoppedError, NotFoundError, StorageError, UsageError
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IngestReport
from medgr2.tasks.intake import read, windows
from medgr2.tasks.intake.ingest import ingest

REALKIT = Path(__file__).resolve().parents[4] / "shared" / "data" / "realkit"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(settings(tmp_path))


def take(
    workspace: Workspace, folder: Path, labels: Path | str = "", *, reread: bool = False, **more: object
) -> IngestReport:
    parameters = IntakeParameters.model_validate({"reports": "keep", **more})
    quiet = lambda plan: None  # noqa: E731
    return ingest(workspace, str(folder), str(labels), parameters, run="test", announce=quiet, reread=reread)


def rows(workspace: Workspace, *columns: str) -> list[dict[str, object]]:
    found = workspace.lake.read("images", columns or None).to_pylist()
    return sorted(found, key=lambda row: str(row["image_id"]))


def jpeg(number: int) -> bytes:
    return picture(number, (96, 96), "JPEG")


def test_good_and_bad_files_are_all_accounted_for(workspace: Workspace, tmp_path: Path) -> None:
    files = {
        "a.png": picture(1), "deep/b.jpg": picture(2, kind="JPEG"), "cut.png": picture(3)[:60], "empty.png": b"",
        "text.png": b"not a picture", "tiny.png": picture(4, (8, 8)), "stray.png": picture(5), "odd.png": picture(6),
        "alien.dcm": b"\0" * 128 + b"DICM",
    }  # fmt: skip
    told = [label(name) for name in files if name not in ("stray.png", "odd.png")]
    told.append(label("odd.png", modality="Crystal ball"))
    report = take(workspace, hospital(tmp_path / "in", told, files))
    assert report.plan.found == 9
    assert (report.accepted, report.rejected, report.failed) == (2, 3, 4)
    assert report.reasons["too_small"] == report.reasons["no_label"] == report.reasons["unknown_modality"] == 1
    assert {row["media_type"] for row in rows(workspace)} == {"image/png", "image/jpeg"}
    stored = {workspace.images.path(str(row["image_id"])).read_bytes() for row in rows(workspace)}
    assert stored == {files["a.png"], files["deep/b.jpg"]}
    noted = workspace.lake.read("files", ["verdict", "reason"]).to_pylist()
    assert len(noted) == 9
    assert sum(row["verdict"] == "failed" for row in noted) == 4
    assert all(row["reason"] for row in noted if row["verdict"] != "accepted")


def test_a_bomb_is_refused_by_its_header(workspace: Workspace, tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    report = take(workspace, hospital(tmp_path / "in", [label("bomb.png")], {"bomb.png": out.getvalue()}))
    assert report.reasons == {"too_many_pixels": 1}


def test_the_second_time_reads_nothing_and_changes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hospital(
        tmp_path / "in", [label(f"{n}.png") for n in range(5)], {f"{n}.png": picture(n) for n in range(5)}
    )
    first = take(workspace, folder)
    assert (first.plan.new, first.added) == (5, 5)
    before = rows(workspace)
    monkeypatch.setattr(windows.SourceReader, "read", lambda *_: pytest.fail("a file was read"))
    again = take(workspace, folder)
    assert (again.plan.new, again.plan.reused, again.accepted, again.added) == (0, 5, 5, 0)
    assert rows(workspace) == before
    monkeypatch.undo()
    thorough = take(workspace, folder, reread=True)
    assert (thorough.plan.new, thorough.plan.reused, thorough.accepted, thorough.added) == (0, 5, 5, 0)
    assert rows(workspace) == before


def test_only_what_is_new_is_read_and_decoded(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [label(f"{n}.png") for n in range(7)]
    folder = hospital(tmp_path / "in", told, {f"{n}.png": picture(n) for n in range(5)})
    take(workspace, folder)
    seen: list[str] = []
    reading = windows.SourceReader.read

    def watched(self: windows.SourceReader, locator: str) -> bytes:
        seen.append(locator.rpartition("\0")[2])
        return reading(self, locator)

    monkeypatch.setattr(windows.SourceReader, "read", watched)
    (folder / "5.png").write_bytes(picture(5))
    (folder / "0.png").write_bytes(picture(6))  # edited in place
    report = take(workspace, folder)
    assert set(seen) == {"0.png", "5.png"}
    assert (report.plan.new, report.plan.reused, report.added) == (2, 4, 2)
    assert len(rows(workspace)) == 7


def test_an_edit_that_keeps_size_and_time_is_seen_all_the_same(workspace: Workspace, tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [label("a.bmp")], {"a.bmp": picture(1, kind="BMP")})
    take(workspace, folder)
    was = (folder / "a.bmp").stat()
    (folder / "a.bmp").write_bytes(picture(2, kind="BMP"))
    os.utime(folder / "a.bmp", ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (folder / "a.bmp").stat().st_size == was.st_size
    assert take(workspace, folder).added == 1


def test_metadata_stays_outside_and_the_picture_stays_the_same(workspace: Workspace, tmp_path: Path) -> None:
    plain = Image.open(io.BytesIO(jpeg(1)))
    exif = Image.Exif()
    exif[0x010E] = "MILLER ANNA 1950-01-02"
    out = io.BytesIO()
    plain.save(out, "JPEG", exif=exif, comment=b"Anna Miller")
    report = take(workspace, hospital(tmp_path / "in", [label("a.jpg")], {"a.jpg": out.getvalue()}))
    (row,) = rows(workspace)
    stored = workspace.images.path(str(row["image_id"])).read_bytes()
    assert b"ILLER" not in stored.upper()
    assert list(Image.open(io.BytesIO(stored)).getdata()) == list(Image.open(io.BytesIO(out.getvalue())).getdata())
    assert row["origin"] != row["image_id"]
    assert any(kind.startswith("exif") for kind in report.identifiers)


def test_no_name_of_a_patient_or_file_is_stored(workspace: Workspace, tmp_path: Path) -> None:
    row = label("Miller_melanoma.png", patient_id="MILLER^ANNA", diagnosis="mass")
    take(workspace, hospital(tmp_path / "Miller" / "in", [row], {"Miller_melanoma.png": picture(1)}))
    (stored,) = rows(workspace)
    assert len(str(stored["patient_key"])) == 64
    assert stored["labels"] == '{"diagnosis": "mass"}'
    root = Path(workspace.settings.storage.root)
    holding = [p for p in root.rglob("*") if p.is_file() and b"miller" in p.read_bytes().lower()]
    assert holding == []
    assert not any("miller" in str(p.relative_to(root)).lower() for p in root.rglob("*"))


def test_the_patient_hash_needs_the_key(tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [label("a.png")], {"a.png": picture(1)})
    keys = []
    for number, key in enumerate((KEY, KEY, "another key of enough length")):
        workspace = open_workspace(settings(tmp_path / str(number), MEDGR2_PRIVACY__PATIENT_KEY=key))
        take(workspace, folder)
        keys.append(rows(workspace)[0]["patient_key"])
    assert keys[0] == keys[1] != keys[2]


def test_another_key_reads_everything_again_and_renames_the_patients(tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [label("a.png"), label("b.png")], {"a.png": picture(1), "b.png": picture(2)})
    take(open_workspace(settings(tmp_path)), folder)
    other = open_workspace(settings(tmp_path, MEDGR2_PRIVACY__PATIENT_KEY="another key of enough length"))
    before = {row["image_id"]: row["patient_key"] for row in rows(other)}
    report = take(other, folder)
    assert (report.plan.new, report.added, report.changed) == (2, 0, 2)
    after = {row["image_id"]: row["patient_key"] for row in rows(other)}
    assert before.keys() == after.keys()
    assert all(before[image] != after[image] for image in before)


def test_a_patient_cannot_sit_on_both_sides(workspace: Workspace, tmp_path: Path) -> None:
    told = [
        label("a.png", patient_id="x", split="train"),
        label("b.png", patient_id="x", split="test"),
        label("c.png", patient_id="y", split="train"),
    ]
    files = {name: picture(n) for n, name in enumerate(("a.png", "b.png", "c.png"))}
    assert take(workspace, hospital(tmp_path / "in", told, files)).reasons == {"patient_in_both_splits": 2}
    later = hospital(tmp_path / "later", [label("d.png", patient_id="y", split="heldout")], {"d.png": picture(9)})
    assert take(workspace, later).reasons == {"patient_in_both_splits": 1}
    assert sorted(str(row["split"]) for row in rows(workspace)) == ["quarantined"] * 3 + ["train"]


def test_one_picture_with_two_labels_is_held_back(workspace: Workspace, tmp_path: Path) -> None:
    told = [label("a.png", patient_id="p", diagnosis="mass"), label("b.png", patient_id="p", diagnosis="normal")]
    report = take(workspace, hospital(tmp_path / "in", told, {"a.png": picture(1), "b.png": picture(1)}))
    assert report.reasons == {"contradicting_labels": 2}
    assert [row["split"] for row in rows(workspace)] == ["quarantined"]


def test_labels_that_were_corrected_are_taken_over(workspace: Workspace, tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [label("a.png", modality="CT")], {"a.png": picture(1)})
    take(workspace, folder)
    for more in ({"modality": "MRI"}, {"report": "seen again"}, {"patient_id": "another"}, {"diagnosis": "mass"}):
        hospital(folder, [label("a.png", **more)], {})
        report = take(workspace, folder)
        assert (report.accepted, report.plan.new, report.added, report.changed) == (1, 0, 0, 1)
    (row,) = rows(workspace)
    assert (row["modality"], row["labels"], row["report"]) == ("CT", '{"diagnosis": "mass"}', None)


def test_a_picture_does_not_change_sides(workspace: Workspace, tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [label("a.png", split="train")], {"a.png": picture(1)})
    take(workspace, folder)
    before = rows(workspace)
    hospital(folder, [label("a.png", split="heldout")], {})
    assert take(workspace, folder).reasons == {"split_was_otherwise": 1}
    assert rows(workspace) == before


def test_without_a_split_column_patients_are_split_for_ever(tmp_path: Path) -> None:
    files = {f"{n}.png": picture(n) for n in range(120)}
    told = [label(name, split="", patient_id=f"p{n // 2}") for n, name in enumerate(files)]
    seen = []
    for there in ("one", "two"):
        workspace = open_workspace(settings(tmp_path / there))
        take(workspace, hospital(tmp_path / "in", told, files))
        seen.append({row["image_id"]: row["split"] for row in rows(workspace)})
        by_patient: dict[object, set[object]] = {}
        for row in rows(workspace):
            by_patient.setdefault(row["patient_key"], set()).add(row["split"])
        assert all(len(splits) == 1 for splits in by_patient.values())
    assert seen[0] == seen[1]
    counts = [list(seen[0].values()).count(split) for split in ("train", "validation", "heldout")]
    assert counts == [96, 12, 12]
    more = [label(f"new{n}.png", split="", patient_id=f"new{n}") for n in range(40)]
    take(workspace, hospital(tmp_path / "more", more, {f"new{n}.png": picture(1000 + n) for n in range(40)}))
    after = {row["image_id"]: row["split"] for row in rows(workspace)}
    assert {image: after[image] for image in seen[1]} == seen[1]
    assert list(after.values()).count("heldout") == 16


def test_bad_labels_say_what_and_where(workspace: Workspace, tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [], {"a.png": picture(1)})
    with pytest.raises(NotFoundError, match=r"no labels"):
        take(workspace, folder, tmp_path / "none.csv")
    (folder / "labels.csv").write_text("name,kind\na.png,CT\n")
    with pytest.raises(DataError, match="no column file"):
        take(workspace, folder)
    (folder / "labels.csv").write_text("a.png,CT,Jane Doe\n")
    with pytest.raises(DataError) as headless:
        take(workspace, folder)
    assert "3 columns" in str(headless.value)
    assert "Jane" not in str(headless.value)
    (folder / "labels.csv").write_text("file,modality\na.png,CT\n")
    with pytest.raises(DataError, match="'Dx'") as missing:
        take(workspace, folder, columns=("diagnosis=Dx",))
    assert "modality" in missing.value.where


def test_a_source_that_cannot_be_used_says_why(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        take(workspace, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="in one another"):
        take(workspace, Path(workspace.settings.storage.root).parent)


def test_one_folder_that_may_not_be_read_is_one_failure(workspace: Workspace, tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [label("a.png")], {"a.png": picture(1)})
    (folder / "gone.png").symlink_to(tmp_path / "nothing")
    report = take(workspace, folder)
    assert report.conserved()
    assert report.accepted == 1


def test_a_source_of_which_too_much_is_broken_stops_and_can_be_finished(tmp_path: Path) -> None:
    files = {f"{n}.png": picture(n) for n in range(30)} | {f"bad{n}.png": picture(n)[: 60 + n] for n in range(20)}
    folder = hospital(tmp_path / "in", [label(name) for name in files], files)
    strict = open_workspace(settings(tmp_path, MEDGR2_COMPUTE__FAILURE_LIMIT="0.2"))
    with pytest.raises(NightStoppedError, match="20 of 50 files failed") as stopped:
        take(strict, folder)
    assert "30 files that were read" in stopped.value.kept
    assert "FAILURE_LIMIT" in stopped.value.next_command
    assert rows(strict) == []
    patient = open_workspace(settings(tmp_path, MEDGR2_COMPUTE__FAILURE_LIMIT="1"))
    report = take(patient, folder)
    assert (report.accepted, report.failed, report.plan.reused, report.plan.retried) == (30, 20, 30, 20)


def test_a_source_that_goes_away_is_no_failure_of_its_files(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{n}.png": picture(n) for n in range(6)}
    folder = hospital(tmp_path / "in", [label(name) for name in files], files)
    monkeypatch.setattr("medgr2.tasks.intake.survey.WINDOW", 3)
    reading = windows.SourceReader.read

    def vanishing(self: windows.SourceReader, locator: str) -> bytes:
        if locator.endswith("\x004.png") and folder.is_dir():
            folder.rename(tmp_path / "elsewhere")
        return reading(self, locator)

    monkeypatch.setattr(windows.SourceReader, "read", vanishing)
    with pytest.raises(StorageError, match="the source has gone"):
        take(workspace, folder)
    monkeypatch.undo()
    (tmp_path / "elsewhere").rename(folder)
    report = take(workspace, folder)
    assert (report.plan.new, report.plan.reused, report.accepted) == (3, 3, 6)


def test_many_small_windows_give_the_same_rows_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{n}.png": picture(n % 20) for n in range(25)}
    told = [label(name, split="", patient_id=f"p{n % 7}") for n, name in enumerate(files)]
    folder = hospital(tmp_path / "in", told, files)
    found = []
    for window in (8192, 4):
        monkeypatch.setattr("medgr2.tasks.intake.survey.WINDOW", window)
        workspace = open_workspace(settings(tmp_path / str(window)))
        report = take(workspace, folder)
        assert report.reasons == {"duplicate": 5}
        found.append([{k: v for k, v in row.items() if k != "added_at"} for row in rows(workspace)])
    assert found[0] == found[1]


def test_real_images(workspace: Workspace) -> None:
    if not REALKIT.is_dir():
        pytest.skip(f"the real test images are not at {REALKIT}")
    report = take(workspace, REALKIT)
    assert report.conserved()
    with (REALKIT / "labels.csv").open(newline="") as f:
        contents = {row["sha256"] for row in csv.DictReader(f)}
    assert report.plan.found == 1505
    assert report.failed == 0
    assert {row["image_id"] for row in rows(workspace, "image_id")} == contents
    assert report.reasons["duplicate"] == 1
    assert report.accepted + report.reasons["contradicts_near_duplicate"] == len(contents)


def test_the_recipe_is_all_that_a_reading_depends_on() -> None:
    first = read.reading_recipe(IntakeParameters().rules, "key")
    assert first.digest != read.reading_recipe(IntakeParameters().rules, "other").digest
    assert (
        first.digest
        != read.reading_recipe(IntakeParameters.model_validate({"rules": {"frames": 5}}).rules, "key").digest
    )
