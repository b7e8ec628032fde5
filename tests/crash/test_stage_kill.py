"""SIGKILL of real drivers at every kind of point, then the same command: nothing lost, nothing twice, nothing again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from processes import alive, children

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore

pytestmark = pytest.mark.crash
HERE = Path(__file__).parent
CELLS = 60
DEADLINE_SECONDS = 400


class Night:
    """One root, and drivers that are started on it and killed."""

    def __init__(self, folder: Path, mode: str, workers: int = 2, batch: int = 7, seconds: float = 0.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.root = folder / "root"
        self.log = folder / "executions.log"
        self.log.touch()
        self._alone = mode == "inline"
        self._command = [str(HERE / "stage_driver.py"), str(self.root), mode, str(workers), str(batch), str(CELLS)]
        self._command.append(str(seconds))
        self._held: dict[str, int] = {}
        self.orphans: list[int] = []

    def hold(self, at: int | None) -> None:
        """Cells from this number on do not end; None: all do."""
        hold = self.log.with_name("hold")
        hold.unlink(missing_ok=True) if at is None else hold.write_text(str(at))

    def start(self, *more: str) -> subprocess.Popen[bytes] | Forked:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MEDGR2_")},
            "PYTHONPATH": str(HERE.parent / "tasks"),
            "OMP_NUM_THREADS": "1",
        }
        complaints = self.root.parent / "stderr.log"
        if self._alone:
            return Forked([*self._command, *more], env, self.root.with_suffix(".out"), complaints)
        with complaints.open("ab") as err:
            return subprocess.Popen([sys.executable, *self._command, *more], env=env, stderr=err)

    def run(self, *more: str) -> int:
        code = self.start(*more).wait(DEADLINE_SECONDS)
        self.check()
        return code

    def executions(self) -> Counter[str]:
        return Counter(line.split()[0] for line in self.log.read_text().splitlines())

    def check(self) -> None:
        """No cell that was in the journal at an earlier check was done since."""
        done = self.executions()
        again = [key for key, n in self._held.items() if done[key] != n]
        assert not again, f"{len(again)} finished cells were done again"
        self._held |= {key: done[key] for key in Journal(FolderStore(self.root), "squares").outcomes()}

    def said(self) -> tuple[dict[str, Any], dict[str, int]]:
        said, plan = json.loads(Path(f"{self.root}.json").read_text())
        return said, plan

    def complain(self) -> str:
        return (self.root.parent / "stderr.log").read_text()[-2000:]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    night = Night(tmp_path_factory.mktemp("undisturbed"), "inline")
    assert night.run() == 0, night.complain()
    assert set(night.executions().values()) == {1}
    said = night.said()[0]
    assert len(said) == CELLS
    return said


def wait_until(what: str, done: Any) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < end, f"waited {DEADLINE_SECONDS} s for {what}"
        time.sleep(0.01)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_write_and_resumed(tmp_path: Path, undisturbed: dict[str, Any], when: str) -> None:
    """One root, killed at the 1st, then 2nd, 3rd ... change of the store, merges and their deletes included."""
    night = Night(tmp_path, "inline", seconds=0.004)
    code, kills = -9, 0
    while code == -signal.SIGKILL:
        kills += 1
        code = night.run(f"kill={when}:{kills}")
    assert code == 0, night.complain()
    assert kills >= 4, "the kills did not come"
    assert night.said()[0] == undisturbed
    assert sum(night.executions().values()) <= CELLS + 12 * kills


def test_killed_between_writes_by_somebody_else(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    night = Night(tmp_path, "inline", batch=64, seconds=0.01)
    for n in (1, 9, 23, 41, 58):
        driver = night.start()
        wait_until(f"{n} executions", lambda n=n: sum(night.executions().values()) >= n)
        driver.kill()
        driver.wait(DEADLINE_SECONDS)
        night.check()
    assert night.run() == 0, night.complain()
    assert night.said()[0] == undisturbed


def test_sigterm_keeps_every_finished_cell(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    night = Night(tmp_path, "inline", batch=64, seconds=0.01)
    night.hold(30)
    driver = night.start()
    wait_until("10 executions", lambda: sum(night.executions().values()) >= 10)
    driver.terminate()
    driver.send_signal(signal.SIGTERM)  # an impatient scheduler
    assert driver.wait(DEADLINE_SECONDS) != 0
    night.check()
    done = night.executions()
    assert len(done) < CELLS
    # The one that was being worked on has begun, but has no outcome.
    assert len(night._held) >= len(done) - 1
    night.hold(None)
    assert night.run() == 0, night.complain()
    assert night.said()[0] == undisturbed


@pytest.fixture(scope="module")
def ray_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    return Night(tmp_path_factory.mktemp("ray"), "ray-local", batch=2, seconds=0.15)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it ended meanwhile
        return ""


@pytest.mark.parametrize(
    ("more", "held", "end"), [(0, 0, signal.SIGKILL), (12, 20, signal.SIGKILL), (12, 40, signal.SIGTERM)]
)
def test_ray_driver_killed_leaves_no_process_and_loses_nothing(
    ray_night: Night, more: int, held: int, end: signal.Signals
) -> None:
    ray_night.hold(held)
    before = sum(ray_night.executions().values())
    driver = ray_night.start()
    if more:
        wait_until(f"{more} more executions", lambda: sum(ray_night.executions().values()) >= before + more)
    else:
        wait_until("Ray's first processes", lambda: len(children(driver.pid)) >= 3)
    family = children(driver.pid)
    assert family, ray_night.complain()
    agents = [pid for pid in family if "Agent" in command_of(pid)]
    driver.send_signal(end)
    assert driver.wait(DEADLINE_SECONDS) != 0
    working = [pid for pid in family if pid not in agents]
    wait_until(f"the orphans of the driver: {working}", lambda: not alive(working))
    ray_night.orphans += agents
    ray_night.check()


def test_ray_resumes_though_workers_die_and_stages_run_in_threads(
    ray_night: Night, undisturbed: dict[str, Any]
) -> None:
    ray_night.hold(56)
    before = sum(ray_night.executions().values())
    driver = ray_night.start("threads")
    wait_until("6 more executions", lambda: sum(ray_night.executions().values()) >= before + 6)
    os.kill(int(ray_night.log.read_text().splitlines()[-1].split()[1]), signal.SIGKILL)
    ray_night.hold(None)
    assert driver.wait(DEADLINE_SECONDS) == 0, ray_night.complain()
    ray_night.check()
    said, plan = ray_night.said()
    assert said == undisturbed
    assert plan["reused"] > 0
    # Ray's agents try for a minute to tell a dead daemon that it is dead. Then they end as well.
    wait_until(f"Ray's agents: {ray_night.orphans}", lambda: not alive(ray_night.orphans))
    # Four disturbances: two workers with two batches of two cells each, or what is on its way to the journal.
    assert sum(ray_night.executions().values()) <= CELLS + 4 * 2 * 4
