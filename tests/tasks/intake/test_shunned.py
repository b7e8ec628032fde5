"""Benchmark images: known by hash and look, refused in every copy, held out at most, and never trained on again."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from ingest_helpers import KEY, hospital, label, picture, settings
from made_dicom import as_bytes, data_set
from PIL import Image, ImageOps

from medgr2.flows.cli import run
from medgr2.infra import versions
from medgr2.infra.lake import Amendment
from medgr2.infra.sources import SourceReader
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, ExitCode, NotFoundError
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IngestReport
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.intake.audit import audit_splits
from medgr2.tasks.intake.ingest import ingest
from medgr2.tasks.intake.shunned import export, shun
from medgr2.tasks.night import open_night
from medgr2.tasks.publish import publish

SIZE = (96, 96)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(settings(tmp_path))


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Four pictures, a file that is none, and a text beside them."""
    folder = hospital(tmp_path / "bench", [], {f"{n}.png": picture(n, SIZE) for n in range(4)})
    (folder / "broken.png").write_bytes(b"not a picture")
    return folder


def changed(number: int, *, mirror: bool = False) -> bytes:
    shown = Image.open(io.BytesIO(picture(number, SIZE)))
    out = io.BytesIO()
    (ImageOps.mirror(shown) if mirror else shown).resize((80, 80)).save(out, "JPEG", quality=80)
    return out.getvalue()


def take(workspace: Workspace, folder: Path) -> IngestReport:
    report = ingest(
        workspace, str(folder), "", IntakeParameters(reports="keep"), run="test", announce=lambda plan: None
    )
    assert report.conserved()
    assert audit_splits(workspace).violations == 0
    return report


def splits(workspace: Workspace) -> dict[str, str]:
    return {row["origin"]: row["split"] for row in workspace.lake.read("images", ["origin", "split"]).to_pylist()}


@pytest.mark.parametrize("listed", [False, True])
def test_no_copy_of_a_benchmark_image_comes_in(tmp_path: Path, benchmark: Path, listed: bool) -> None:
    """From the pictures, and from the list that another site made of them."""
    workspace, source = open_workspace(settings(tmp_path / "here")), benchmark
    if listed:
        other = open_workspace(settings(tmp_path / "there"))
        shun(other, "kit", str(benchmark))
        source = tmp_path / "kit.csv"
        assert export(other, "kit", source) == 5
    added = shun(workspace, "kit", str(source))
    assert (added["images"], added["added"], added["quarantined"]) == (5, 5, 0)
    assert added["failed"] == ({} if listed else {"not_an_image": 1})
    files = {
        "same.png": picture(0, SIZE), "coded.jpg": changed(1), "mirrored.jpg": changed(2, mirror=True),
        "own.png": picture(50, SIZE),
    }  # fmt: skip
    told = [label(name, split="") for name in files]
    report = take(workspace, hospital(tmp_path / "in", told, files))
    assert (report.accepted, report.reasons) == (1, {"known_benchmark_image": 3})
    held = splits(workspace)
    assert {name for name, data in files.items() if held[sha256_hex(data)] == "quarantined"} == files.keys() - {
        "own.png"
    }


def test_an_exam_may_use_them_a_lesson_may_not(workspace: Workspace, tmp_path: Path, benchmark: Path) -> None:
    shun(workspace, "kit", str(benchmark))
    files = {
        "a.png": picture(0, SIZE),
        "b.jpg": changed(1, mirror=True),
        "c.png": picture(2, SIZE),
        "d.jpg": changed(3),
    }
    told = [
        label("a.png", split="heldout"), label("b.jpg", split="test"), label("c.png", split="train"),
        label("d.jpg", split="val"),
    ]  # fmt: skip
    report = take(workspace, hospital(tmp_path / "in", told, files))
    assert (report.accepted, report.reasons) == (2, {"known_benchmark_image": 2})
    held = splits(workspace)
    assert [held[sha256_hex(data)] for data in files.values()] == ["heldout", "heldout", "quarantined", "quarantined"]


def test_what_was_taken_in_before_is_quarantined_and_stays_so(
    workspace: Workspace, tmp_path: Path, benchmark: Path
) -> None:
    files = {"same.png": picture(0, SIZE), "mirrored.jpg": changed(1, mirror=True), "own.png": picture(50, SIZE),
             "exam.png": picture(2, SIZE)}  # fmt: skip
    told = [label(name, split="heldout" if name == "exam.png" else "train") for name in files]
    folder = hospital(tmp_path / "in", told, files)
    assert take(workspace, folder).accepted == 4
    assert shun(workspace, "kit", str(benchmark))["quarantined"] == 2
    expected = ["quarantined", "quarantined", "train", "heldout"]
    assert [splits(workspace)[sha256_hex(data)] for data in files.values()] == expected
    assert audit_splits(workspace).violations == 0
    again = take(workspace, folder)
    assert (again.accepted, again.reasons, again.plan.new) == (2, {"known_benchmark_image": 2}, 0)
    assert [splits(workspace)[sha256_hex(data)] for data in files.values()] == expected


def test_adding_it_again_adds_nothing(workspace: Workspace, benchmark: Path) -> None:
    first = shun(workspace, "kit", str(benchmark))
    again = shun(workspace, "kit", str(benchmark))
    assert (first["added"], again["added"], again["images"]) == (5, 0, 5)


def test_nothing_of_a_benchmark_is_kept_but_hashes(workspace: Workspace, benchmark: Path) -> None:
    shun(workspace, "kit", str(benchmark))
    root = Path(workspace.settings.storage.root)
    assert not (root / "images").exists()
    whole = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert b"bench" in whole  # the lake's own words
    assert str(benchmark).encode() not in whole
    assert b"broken.png" not in whole


def test_an_item_about_a_quarantined_image_leaves_the_next_version(
    workspace: Workspace, tmp_path: Path, benchmark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"same.png": picture(0, SIZE), "own.png": picture(50, SIZE)}
    take(workspace, hospital(tmp_path / "in", [label(name) for name in files], files))
    items = {}
    for name, data in files.items():
        item = Item(
            image_id=sha256_hex(data), question_type=QuestionType.DISEASE, question="What is seen?",
            options=("mass", "cyst", "scar", "none"), answer="A", rationale="A mass.",
        )  # fmt: skip
        items[name] = item.item_id
        row = item.model_dump(mode="json") | {"item_id": item.item_id, "origin": "generated"}
        workspace.lake.append_new("items", [row], key="item_id")
    versions.publish(workspace.lake, dataset="nightly", add=items.values(), card={}, run="nightly/one")
    shun(workspace, "kit", str(benchmark))
    audit = audit_splits(workspace)
    assert audit.violations == 1  # published before anybody knew, and said so until it is gone
    monkeypatch.setattr("medgr2.tasks.publish.drafted", lambda *_, **__: [])  # a night that drafts nothing
    tonight = RefreshParameters(dataset="nightly", night="two")
    report = publish(workspace, open_night(workspace, tonight), tonight)
    assert report.version is not None
    assert (report.version.ref, report.version.removed) == ("nightly@2", 1)
    assert versions.members(workspace.lake, report.version) == [items["own.png"]]
    assert audit_splits(workspace).violations == 0


def test_every_frame_of_a_film_is_known(workspace: Workspace, tmp_path: Path) -> None:
    frames = [np.asarray(Image.open(io.BytesIO(picture(n, SIZE))).convert("L")) for n in (1, 2, 3)]
    film = hospital(tmp_path / "bench", [], {"film.dcm": as_bytes(data_set(np.stack(frames), NumberOfFrames=3))})
    assert shun(workspace, "films", str(film))["added"] == 3
    files = {f"{n}.jpg": changed(n) for n in (1, 2, 3)}
    report = take(workspace, hospital(tmp_path / "in", [label(name) for name in files], files))
    assert report.reasons == {"known_benchmark_image": 3}


def test_a_picture_that_cannot_be_read_is_a_reason(
    workspace: Workspace, benchmark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = SourceReader.read

    def read(self: SourceReader, locator: str) -> bytes:
        if locator.endswith("2.png"):
            raise PermissionError(13, "Permission denied", locator)
        return reading(self, locator)

    monkeypatch.setattr(SourceReader, "read", read)
    assert shun(workspace, "kit", str(benchmark))["failed"] == {"not_an_image": 1, "unreadable": 1}


def test_fingerprints_of_another_release_stop_nothing_and_are_renewed(
    workspace: Workspace, tmp_path: Path, benchmark: Path
) -> None:
    files = {"a.png": picture(50, SIZE)}
    folder = hospital(tmp_path / "in", [label("a.png")], files)
    take(workspace, folder)
    (held,) = workspace.lake.read("images").to_pylist()
    old = b"\x00" + bytes(40)
    renamed = {"image_id": "e" * 64, "origin": "e" * 64, "told": None}
    workspace.lake.amend(
        "images", lambda _: Amendment(True, [[held | {"fingerprint": old}, held | renamed | {"fingerprint": old}]]),
        key="image_id",
    )  # fmt: skip
    known = {"benchmark_id": "old", "benchmark": "kit", "content": "f" * 64, "fingerprint": old}
    workspace.lake.append_new("benchmarks", [known], key="benchmark_id")
    shun(workspace, "kit", str(benchmark))
    assert audit_splits(workspace).without_fingerprint == 2
    report = take(workspace, folder)
    assert (report.accepted, report.added, report.changed) == (1, 0, 1)
    assert audit_splits(workspace).without_fingerprint == 1
    assert {row["fingerprint"] for row in workspace.lake.read("images").to_pylist()} == {held["fingerprint"], old}


def test_a_list_that_is_none_says_where(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "kit.csv"
    path.write_text("file,hash\na,b\n")
    with pytest.raises(DataError, match="sha256, fingerprint"):
        shun(workspace, "kit", str(path))
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([("sha256", "fingerprint"), ("a" * 64, ""), ("b" * 64, "!!!!")])
    with pytest.raises(DataError) as torn:
        shun(workspace, "kit", str(path))
    assert torn.value.where.endswith("line 3")
    assert workspace.lake.read("benchmarks").num_rows == 0


@pytest.mark.parametrize(("sha", "print_"), [("nonsense", ""), ("a" * 64, "AAAA"), ("", "")])
def test_a_row_that_would_never_match_is_refused(workspace: Workspace, tmp_path: Path, sha: str, print_: str) -> None:
    """Taken silently it would guard nothing; a fingerprint of another release would stop every later ingest."""
    path = tmp_path / "kit.csv"
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([("sha256", "fingerprint"), (sha, print_)])
    with pytest.raises(DataError) as refused:
        shun(workspace, "kit", str(path))
    assert refused.value.where.endswith("line 2")
    assert workspace.lake.read("benchmarks").num_rows == 0


def test_the_commands(
    tmp_path: Path, benchmark: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("MEDGR2_PRIVACY__PATIENT_KEY", KEY)
    assert run(["benchmarks", "export", "kit", str(tmp_path / "kit.csv")]) == ExitCode.NOT_FOUND
    assert run(["benchmarks", "add", "kit", str(tmp_path / "nowhere")]) == ExitCode.NOT_FOUND
    assert run(["benchmarks", "add", "kit", str(benchmark), "--json"]) == 0
    assert run(["benchmarks", "export", "kit", str(tmp_path / "kit.csv")]) == 0
    with (tmp_path / "kit.csv").open(newline="") as f:
        assert {row["sha256"] for row in csv.DictReader(f)} == {
            sha256_hex(path.read_bytes()) for path in benchmark.glob("*.png")
        }
    capsys.readouterr()
    assert run(["benchmarks", "list", "--json"]) == 0
    assert '"images": 5' in capsys.readouterr().out


def test_an_unknown_benchmark_cannot_be_exported(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no benchmark kit"):
        export(workspace, "kit", tmp_path / "kit.csv")
    assert not (tmp_path / "kit.csv").exists()
