"""SIGKILL before and after every write of an ingest: the next run ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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


def start(root: Path, source: Path, writes: int) -> tuple[int, str, str]:
    env = os.environ | {
        "MEDGR2_STORAGE__ROOT": str(root), "MEDGR2_COMPUTE__MODE": "inline", "MEDGR2_PRIVACY__PATIENT_KEY": KEY,
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    driver = Forked([str(DRIVER), str(source), str(writes)], env, Path(f"{root}.out"), Path(f"{root}.err"))
    said, complained = driver.communicate(timeout=400)
    return driver.wait(1), said, complained


def rows(root: Path, table: str) -> list[str]:
    found: list[dict[str, Any]] = Lake(StorageSettings(root=str(root))).read(table).to_pylist()
    return sorted(json.dumps({k: v for k, v in row.items() if k not in TIMES}, default=repr) for row in found)


@pytest.mark.crash
@pytest.mark.timeout(900)
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
    env = os.environ | {
        "MEDGR2_STORAGE__ROOT": str(tmp_path / "root"), "MEDGR2_COMPUTE__MODE": "inline", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(DRIVER), str(source), "0"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    killed = 0
    while process.poll() is None and killed < 3:
        for child in _children(process.pid):
            os.kill(child, signal.SIGKILL)
            killed += 1
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err.decode()
    report = IngestReport.model_validate_json(out)
    assert killed > 0
    assert report.conserved()
    assert report.accepted + report.reasons.get("killed_its_reader", 0) == 60
    assert report.accepted >= 60 - killed


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
