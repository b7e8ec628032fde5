"""The Ray of one process: how it starts where others do the same, and where the machine is slow."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import pytest

GIVES_UP = """
import sys
import ray
from ray._private import services
from medgr2.infra import ray_local
from medgr2.schemas.errors import NightStoppedError

start, failures = services.start_raylet, int(sys.argv[1])

def gives_up(*args, **more):
    global failures
    failures -= 1
    if failures >= 0:
        raise RuntimeError("the raylet gave up")  # its control service runs by then
    return start(*args, **more)

services.start_raylet = gives_up
try:
    ray_local.start_ray()
    print(ray.get(ray.remote(lambda: "it works").remote()))
except NightStoppedError as e:
    print(e.what)
"""


@pytest.mark.parametrize(
    ("failures", "said"), [(2, "it works"), (3, "did not start: RuntimeError: the raylet gave up")]
)
def test_a_ray_that_gave_up_its_start_is_started_again(tmp_path: Path, failures: int, said: str) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    done = subprocess.run(
        [sys.executable, "-c", GIVES_UP, str(failures)], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert said in done.stdout, done.stderr


def test_a_folder_that_another_process_took_for_one_left_behind_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock it looks like one whose process is gone."""
    from medgr2.infra import ray_local

    lock, taken = fcntl.flock, list[Path]()

    def late(file: IO[str], how: int) -> None:
        if not taken and not how & fcntl.LOCK_NB:
            taken.append(Path(file.name).parent)
            shutil.rmtree(taken[0])
        lock(file, how)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ray_local.atexit, "register", lambda *_: None)
    monkeypatch.setattr(ray_local, "_held", [])
    monkeypatch.setattr(fcntl, "flock", late)
    (tmp_path / f"medgr2-ray-{os.getuid()}-left" / "logs").mkdir(parents=True)  # written to when it was removed
    folder = ray_local._own_folder()
    assert (len(taken), folder.is_dir(), folder != taken[0]) == (1, True, True)
    assert ray_local._own_folder() != folder
    assert folder.is_dir(), "locked, it is left alone"
    assert len(list(tmp_path.iterdir())) == 2
