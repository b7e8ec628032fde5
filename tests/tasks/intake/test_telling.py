"""Labels fetched from a bucket lie on the disk for as long as they are needed, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medgr2.tasks.intake.telling import PRIVATE, PrivateFolder

KILLED = """
import os, signal
from medgr2.tasks.intake.telling import PrivateFolder
folder = PrivateFolder()
(folder.path / "labels.csv").write_text("file,patient_name")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_needs_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=400)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(f"{PRIVATE}*/labels.csv")
    mine = PrivateFolder()
    assert not left.exists()
    another = PrivateFolder()
    assert mine.path.is_dir()
    assert mine.path.stat().st_mode & 0o777 == 0o700
    for folder in (mine, another):
        folder.close()
    assert list(tmp_path.iterdir()) == []


def test_many_at_once_take_nothing_from_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def hold(_: int) -> str:
        folder = PrivateFolder()
        labels = folder.path / "labels.csv"
        labels.write_text("file,patient_name")
        PrivateFolder().close()  # it looks for what was left behind
        said = labels.read_text()
        folder.close()
        return said

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(hold, range(400))) == {"file,patient_name"}
    assert list(tmp_path.iterdir()) == []
