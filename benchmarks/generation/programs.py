"""Programs that ask the same rows of the same server: the floor, ours, and peers in environments of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from serving import Served

HERE = Path(__file__).parent
DEADLINE_SECONDS = 120
PEERS = {
    "datatrove": "datatrove",
    "curator": "bespokelabs-curator",
    "designer": "data-designer",
    "ray": "ray",
    "distilabel": "distilabel",
}
"""Environment -> package."""
VERSION = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]), 'on Python', sys.version.split()[0])"


@dataclass(frozen=True)
class Used:
    status: int
    wall: float
    cpu: float
    peak_mb: float
    told: dict[str, Any]
    """The last line that it printed; empty when it did not get so far."""


@dataclass(frozen=True)
class Program:
    name: str
    python: str
    script: str
    resumes: bool = True
    more: tuple[str, ...] = field(default=())

    def command(self, served: Served, folder: Path, rows: int, in_flight: int, *more: str) -> list[str]:
        where = [str(folder)] if self.resumes else []
        return [
            self.python,
            str(HERE / self.script),
            served.url,
            *where,
            str(rows),
            str(in_flight),
            *self.more,
            *more,
        ]

    def edited(self, count: int) -> list[str]:
        return [*(["--edited"] if self.name == "ours" else []), str(count)]


def ours() -> Program:
    return Program("ours", sys.executable, "ours.py")


def floor() -> Program:
    return Program("bare aiohttp", sys.executable, "floor.py", resumes=False)


def peers(environments: Path) -> list[Program]:
    """Those whose environment is there and has the package; their versions, and what is missing, are told."""
    found = []
    for name, package in PEERS.items():
        python = environments / name / "bin" / "python"
        if python.exists():
            asked = subprocess.run([str(python), "-c", VERSION, package], capture_output=True, text=True, timeout=60)
            if asked.returncode:
                print(f"{name}: {package} is not installed in {python.parents[1]}, left out")
                continue
            print(f"{name}: {package} {asked.stdout.strip()}")
            found.append(Program(name, str(python), f"peers/{name}_rows.py"))
        else:
            print(f"{name}: no environment at {python.parents[1]}, left out")
    return found


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEDGR2_")}
    return {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}


def run(command: list[str], folder: Path) -> Used:
    """To its end, or to the deadline (status 124)."""
    folder.mkdir(parents=True, exist_ok=True)
    report, log = folder / "used.json", folder / "program.log"
    with log.open("w") as out:
        subprocess.run(
            [sys.executable, str(HERE / "measured.py"), str(report), str(DEADLINE_SECONDS), *command],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(),
            check=True,
            timeout=DEADLINE_SECONDS + 60,
        )
    return Used(**json.loads(report.read_text()), told=_last_line(log))


def run_and_kill(command: list[str], folder: Path, when: Callable[[], bool]) -> bool:
    """SIGKILL for it and all its descendants as soon as `when`; False when it ended before, or never came there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "killed.log").open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment())
    end = time.monotonic() + DEADLINE_SECONDS
    while not (there := when()) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait(30)
    return there


def _last_line(log: Path) -> dict[str, Any]:
    for line in reversed(log.read_text(errors="replace").splitlines()):
        if line.startswith('{"'):
            with contextlib.suppress(ValueError):
                found: dict[str, Any] = json.loads(line)
                return found
    return {}


def title(text: str) -> None:
    print("\n" + textwrap.fill(text, 110), flush=True)


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
