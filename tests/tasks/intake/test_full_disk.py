"""A disk that fills while images are taken in: a clear word, nothing half-written, and the same rows afterwards."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingest_helpers import KEY, hospital, label, picture, settings

from medgr2.flows.cli import run
from medgr2.infra.journal import Journal
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.errors import ExitCode, StorageError
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IngestReport
from medgr2.tasks.intake.audit import audit_splits
from medgr2.tasks.intake.ingest import ingest

MEGABYTES = 3
MEANWHILE = {"added_at", "run", "seen_at"}
PICTURES = 40
"""Of some 9 kB each."""
TOO_LITTLE = 420
"""Kilobytes; they, the journal and the tables need some 510."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 3 MB large."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system to be filled")
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={MEGABYTES}m,mode=700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {f"{n}.png": picture(n, (60, 50)) for n in range(PICTURES)} | {"cut.png": picture(90)[:99]}
    told = [label(name, split="", patient_id=f"p{n // 2}") for n, name in enumerate(files)]
    return hospital(tmp_path / "in", told, files)


def fill(disk: Path, leave: int) -> Path:
    """Takes all but `leave` bytes away."""
    found = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(b"\1" * (found.f_bavail * found.f_frsize - leave))
    return ballast


def opened(place: Path) -> Workspace:
    return open_workspace(settings(place))


def take(place: Path, source: Path) -> IngestReport:
    report = ingest(opened(place), str(source), "", IntakeParameters(), run="test", announce=lambda plan: None)
    assert report.conserved()
    return report


def no_room(place: Path, source: Path) -> StorageError | None:
    try:
        take(place, source)
    except StorageError as e:
        return e
    return None


def rows(workspace: Workspace, table: str) -> list[str]:
    found = workspace.lake.read(table).to_pylist()
    return sorted(json.dumps({k: v for k, v in row.items() if k not in MEANWHILE}, default=repr) for row in found)


def assert_nothing_is_half_written(workspace: Workspace) -> None:
    """Whatever can be read is whole: every image named by its hash, every outcome, every table."""
    for folder in (Path(workspace.settings.storage.root) / "images").rglob("*"):
        if folder.is_file():
            workspace.images.path(folder.name)
    journal = Journal(workspace.store, "ingest")
    done = journal.outcomes()
    assert len(done) <= PICTURES + 1
    for outcome in done.values():
        for one in (outcome.value or {}).get("pictures", ()):
            workspace.images.path(one["image_id"])
    assert len(rows(workspace, "images")) in (0, PICTURES)
    for row in workspace.lake.read("images").to_pylist():
        workspace.images.path(row["image_id"])
    assert audit_splits(workspace).violations == 0


@pytest.fixture
def expected(tmp_path: Path, source: Path) -> dict[str, list[str]]:
    """What there is where the disk is large enough."""
    take(tmp_path / "large", source)
    large = opened(tmp_path / "large")
    assert len(rows(large, "images")) == PICTURES
    return {table: rows(large, table) for table in ("images", "files")}


@pytest.mark.parametrize("leave", [8, 40, 80, 130, 200, 300, 420, 460, 500, 540])
def test_wherever_it_fills_the_same_command_completes_later(
    disk: Path, source: Path, expected: dict[str, list[str]], leave: int
) -> None:
    """In kilobytes: before the first byte, between the pictures, in the journal, in the tables."""
    ballast = fill(disk, leave << 10)
    stopped = no_room(disk, source)
    if stopped is None:
        assert leave > TOO_LITTLE
    else:
        assert "No space left" in stopped.what
        assert stopped.kept
        assert "free space" in stopped.next_command
    os.truncate(ballast, ballast.stat().st_size - (200 << 10))  # enough to read by, not to write by
    assert_nothing_is_half_written(opened(disk))
    ballast.unlink()
    take(disk, source)
    workspace = opened(disk)
    assert {table: rows(workspace, table) for table in expected} == expected
    assert_nothing_is_half_written(workspace)


def test_the_command_says_so_with_its_code(
    disk: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("STORAGE__ROOT", str(disk / "root")), ("COMPUTE__MODE", "inline"), ("PRIVACY__PATIENT_KEY", KEY),
    ):  # fmt: skip
        monkeypatch.setenv(f"MEDGR2_{name}", value)
    ballast = fill(disk, 250 << 10)
    for _ in range(2):
        assert run(["ingest", str(source), "--json"]) == ExitCode.STORAGE == 4
        said = capsys.readouterr()
        assert said.out == ""
        assert "No space left" in said.err
        assert "kept:" in said.err
        assert "next:" in said.err
        assert "free space" in said.err
        assert "Traceback" not in said.err
        assert str(source) not in said.err
    ballast.unlink()
    assert run(["ingest", str(source), "--json"]) == ExitCode.OK
    report = json.loads(capsys.readouterr().out)["images"]
    assert (report["accepted"], report["failed"]) == (PICTURES, 1)
    assert report["plan"]["reused"] + report["plan"]["new"] == PICTURES + 1


def test_a_listing_that_does_not_fit_leaves_everything_taken_in(
    disk: Path, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("STORAGE__ROOT", str(tmp_path / "root")), ("COMPUTE__MODE", "inline"), ("PRIVACY__PATIENT_KEY", KEY),
    ):  # fmt: skip
        monkeypatch.setenv(f"MEDGR2_{name}", value)
    fill(disk, 0)
    assert run(["ingest", str(source), "--listing", str(disk / "listing.csv")]) == ExitCode.STORAGE
    said = capsys.readouterr().err
    assert "cannot write the listing: No space left" in said
    assert "everything taken in" in said
    assert len(rows(opened(tmp_path), "images")) == PICTURES
