"""SIGKILL before and after every write of an ingest: the next run ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from ingest_helpers import KEY, hospital, label, picture

from medgr2.infra.lake import Lake
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.intake_reports import IngestReport

DRIVER = Path(__file__).with_name("ingest_driver.py")
MOST_WRITES = 120
TIMES = {"added_at", "seen_at", "finished_at", "seconds"}


def start(root: Path, source: Path, writes: int, *kills: int) -> tuple[int, str, str]:
    env = os.environ | {
        "MEDGR2_STORAGE__ROOT": str(root), "MEDGR2_COMPUTE__MODE": "inline", "MEDGR2_PRIVACY__PATIENT_KEY": KEY,
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [str(DRIVER), str(source), *map(str, (writes, *kills))]
    driver = Forked(command, env, Path(f"{root}.out"), Path(f"{root}.err"))
    said, complained = driver.communicate(timeout=400)
    return driver.wait(1), said, complained


def rows(root: Path, table: str) -> list[str]:
    found: list[dict[str, Any]] = Lake(StorageSettings(root=str(root))).read(table).to_pylist()
    return sorted(json.dumps({k: v for k, v in row.items() if k not in TIMES}, default=repr) for row in found)


@pytest.mark.crash
@pytest.mark.timeout(3000)
def test_killed_at_every_write_it_ends_as_one_that_was_not(tmp_path: Path) -> None:
    files = {f"{n}.png": picture(n) for n in range(50)} | {"cut.png": picture(60)[:90], "twin.png": picture(3)}
    told = [label(name, split="", patient_id=f"p{n // 2}") for n, name in enumerate(files)]
    source = hospital(tmp_path / "in", told, files)
    code, said, complained = start(tmp_path / "whole", source, 0)
    assert code == 0, complained
    expected = IngestReport.model_validate_json(said)
    assert (expected.accepted, expected.rejected, expected.failed) == (50, 1, 1)
    for writes in range(1, MOST_WRITES):
        root = tmp_path / str(writes)
        code, _, complained = start(root, source, writes)
        if code == 0:
            break
        assert code == -signal.SIGKILL, complained
        code, said, complained = start(root, source, 0)
        assert code == 0, complained
        report = IngestReport.model_validate_json(said)
        assert (report.reasons, report.splits) == (expected.reasons, expected.splits)
        for table in ("images", "files"):
            assert rows(root, table) == rows(tmp_path / "whole", table), f"{table}, killed at write {writes}"
    else:
        pytest.fail(f"still killed at write {MOST_WRITES}")
    assert writes > 12


@pytest.mark.crash
def test_a_reader_that_is_killed_costs_no_picture(tmp_path: Path) -> None:
    """The decoding process is ended from outside, again and again, while a whole ingest runs."""
    files = {f"{n}.png": picture(n, (400, 400)) for n in range(60)}
    source = hospital(tmp_path / "in", [label(name) for name in files], files)
    code, said, complained = start(tmp_path / "root", source, 0, 5, 16, 30)
    assert code == 0, complained
    report = IngestReport.model_validate_json(said)
    assert report.conserved()
    assert report.accepted == 60
