"""A training told to stop, cut off, or moved to another machine ends in the very weights of one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from processes import alive, children

from medgr2.infra.checkpoint_vault import PREFIX
from medgr2.schemas.errors import ExitCode

pytest.importorskip("trl", reason="the extra 'train' is not installed")
pytestmark = pytest.mark.crash
HERE = Path(__file__).parent
DEADLINE_SECONDS = 400
SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {"steps": 6, "batch": 2, "checkpoint_every": 2, "learning_rate": 1e-3},
    "grpo": {"steps": 6, "prompts": 2, "generations": 4, "checkpoint_every": 2, "learning_rate": 1e-3},
    "reward": {"steps": 6, "batch": 4, "checkpoint_every": 2, "learning_rate": 1e-3, "warmup_steps": 0},
}


class Machine:
    """A root of its own, or somebody else's, with a cache of its own."""

    def __init__(self, folder: Path, method: str, mode: str = "inline", root: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.method, self.mode = folder, method, mode
        self.root = root or folder / "root"
        self.cache = folder / "cache"
        self.beats = folder / "beats"
        self.beats.touch()
        self.said, self.errors = folder / "stdout.log", folder / "stderr.log"

    def start(self, **more: str) -> subprocess.Popen[bytes] | Forked:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MEDGR2_")}
        environment = {
            "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TEST_BEATS": str(self.beats),
            "MEDGR2_STORAGE__ROOT": str(self.root), "MEDGR2_STORAGE__CACHE": str(self.cache),
            "MEDGR2_COMPUTE__MODE": self.mode, "MEDGR2_COMPUTE__WORKERS": "1", "MEDGR2_TRAINING__STORE_EVERY": "1",
            "MEDGR2_TRAINING__GRACE_SECONDS": "400",
        }  # fmt: skip
        command = [str(HERE / "training_driver.py"), self.method, json.dumps(SETTINGS[self.method])]
        self.errors.write_text("")
        if self.mode == "inline" and "MEDGR2_TRAINING__PROCESSES" not in more:
            return Forked(command, kept | environment | more, self.said, self.errors)
        with self.said.open("ab") as out, self.errors.open("ab") as err:
            return subprocess.Popen([sys.executable, *command], env=kept | environment | more, stdout=out, stderr=err)

    def end(self, driver: subprocess.Popen[bytes] | Forked) -> int:
        return driver.wait(DEADLINE_SECONDS)

    def artifact(self, **more: str) -> str:
        """Of the training, run to its end."""
        assert self.end(self.start(**more)) == 0, self.errors.read_text()[-2000:]
        return str(json.loads(self.said.read_text().splitlines()[-1])["value"]["artifact"])

    def steps(self) -> list[int]:
        """Of the checkpoints in the scratch folder."""
        return sorted(int(p.name.partition("-")[2]) for p in self.cache.glob("training/*/*/model.work/checkpoint-*"))

    def stored(self) -> list[int]:
        return sorted(int(p.parent.name) for p in (self.root / PREFIX).glob("*/*/receipt.json"))


def wait_until(what: str, done: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < end, f"waited {DEADLINE_SECONDS} s for {what}"
        time.sleep(0.02)


def beats(machine: Machine) -> int:
    return len(machine.beats.read_text().splitlines())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return {method: Machine(folder / method, method).artifact() for method in SETTINGS}


@pytest.mark.parametrize(("method", "beat"), [("sft", 4), ("grpo", 6), ("reward", 6)])
def test_killed_with_its_machine_and_resumed_on_another(
    tmp_path: Path, undisturbed: dict[str, str], method: str, beat: int
) -> None:
    """Nothing is left of the first machine: not its scratch folder, not its cache. What it had stored is enough."""
    first = Machine(tmp_path / "first", method)
    assert first.end(first.start(TEST_KILL_AT=str(beat))) == -signal.SIGKILL
    stored = first.stored()
    assert len(stored) == (beat - 2) // 2  # a beat before the first step, and one after each
    shutil.rmtree(first.cache)
    second = Machine(tmp_path / "second", method, root=first.root)
    assert second.artifact() == undisturbed[method]
    # One beat before the first step, one a step, one after the last.
    assert beats(second) == 8 - (stored[-1] if stored else 0)
    assert not list((first.root / PREFIX).rglob("*.*")), "checkpoints of a finished training are not kept"


def test_a_torn_upload_is_passed_over(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """The newest lacks a file of those in its receipt, the one before has another byte: the oldest whole one counts."""
    first = Machine(tmp_path / "first", "sft")
    assert first.end(first.start(TEST_KILL_AT="7")) == -signal.SIGKILL
    assert first.stored() == [2, 4]
    (optimizer,) = (first.root / PREFIX).glob("*/0000000004/files/optimizer.pt")
    data = bytearray(optimizer.read_bytes())
    data[len(data) // 2] ^= 1
    optimizer.write_bytes(data)
    shutil.rmtree(first.cache)
    second = Machine(tmp_path / "second", "sft", root=first.root)
    assert second.artifact() == undisturbed["sft"]
    assert beats(second) == 8 - 2
    assert "step 4 is damaged" in second.errors.read_text()


@pytest.mark.parametrize(
    ("method", "number"),
    [("sft", signal.SIGTERM), ("grpo", signal.SIGTERM), ("reward", signal.SIGTERM), ("sft", signal.SIGINT)],
)
def test_a_signal_saves_at_the_next_step_and_leaves(
    tmp_path: Path, undisturbed: dict[str, str], method: str, number: signal.Signals
) -> None:
    first = Machine(tmp_path / "first", method)
    driver = first.start(TEST_HOLD="4")
    wait_until("the step after a checkpoint", lambda: beats(first) >= 4)
    driver.send_signal(number)
    assert first.end(driver) == ExitCode.INTERRUPTED, first.errors.read_text()[-2000:]
    said = first.errors.read_text()
    assert "was asked to stop" in said
    assert "same command again" in said
    (last,) = first.steps()[-1:]
    assert last == 3, "the checkpoint is of the step that was under way"
    assert f"after step {last} of 6" in said
    assert first.stored()[-1] == last, "a node that is taken away takes its disk along"
    shutil.rmtree(first.cache)
    second = Machine(tmp_path / "second", method, root=first.root)
    assert second.artifact() == undisturbed[method]
    assert beats(second) == 8 - last


def test_a_step_longer_than_the_grace_is_left_and_says_so(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    machine = Machine(tmp_path, "sft")
    driver = machine.start(TEST_PAUSE="600", TEST_FROM="4", MEDGR2_TRAINING__GRACE_SECONDS="1")
    wait_until("the third step", lambda: beats(machine) >= 4)
    driver.terminate()
    assert machine.end(driver) == ExitCode.INTERRUPTED
    assert "its step did not end within 1 s" in machine.errors.read_text()
    assert "the checkpoint of step 2" in machine.errors.read_text()
    assert machine.artifact() == undisturbed["sft"]


def test_a_training_that_stands_still_is_ended(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    machine = Machine(tmp_path, "sft")
    stands = {"TEST_STOOD": "2000", "TEST_PAUSE": "600", "TEST_FROM": "4"}
    driver = machine.start(MEDGR2_TRAINING__STALL_SECONDS="1999", **stands)
    assert machine.end(driver) == ExitCode.NIGHT_STOPPED
    assert "made no step for 2" in machine.errors.read_text()
    assert "slowly (training_workers.py" in machine.errors.read_text()
    assert machine.artifact() == undisturbed["sft"]


def test_in_a_worker_of_ray_as_well(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """The driver gets the signal; the process that trains is another one, and a thread of it at that."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    first = Machine(tmp_path / "first", "sft", mode="ray-local")
    driver = first.start(TEST_HOLD="4")
    wait_until("the step after a checkpoint", lambda: beats(first) >= 4)
    family = children(driver.pid)
    assert int(first.beats.read_text().split()[0]) != driver.pid
    driver.terminate()
    assert first.end(driver) == ExitCode.INTERRUPTED, first.errors.read_text()[-2000:]
    assert first.stored()[-1] == first.steps()[-1] == 3
    trainer = int(first.beats.read_text().split()[0])
    assert "was asked to stop, and did after step" in first.errors.read_text()
    assert trainer in family
    wait_until("the end of the process that trained", lambda: not alive([trainer]))
    shutil.rmtree(first.cache)
    second = Machine(tmp_path / "second", "sft", root=first.root)
    assert second.artifact() == undisturbed["sft"]


def test_several_processes_heed_notice_end_with_their_parent_and_give_the_bytes_of_an_undisturbed_crew(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """Told to stop on one machine, killed on another, which has the stored checkpoint only, and run a third time."""
    two = {"MEDGR2_TRAINING__PROCESSES": "2"}
    first = Machine(tmp_path / "first", "sft")
    driver = first.start(TEST_HOLD="4", **two)
    wait_until("the step after a checkpoint", lambda: beats(first) >= 4)
    driver.terminate()
    assert first.end(driver) == ExitCode.INTERRUPTED, first.errors.read_text()[-2000:]
    last = first.steps()[-1]
    assert f"after step {last} of 6" in first.errors.read_text()
    assert first.stored()[-1] == last == 3
    assert not list(first.cache.glob("training/*/*/*.crew"))
    shutil.rmtree(first.cache)

    second = Machine(tmp_path / "second", "sft", root=first.root)
    driver = second.start(TEST_HOLD="2", **two)
    wait_until("its first step", lambda: beats(second) >= 2)
    family = children(driver.pid)
    assert len(family) >= 3, "a launcher and two that train"
    assert list(second.cache.glob("training/*/*/*.crew"))
    driver.kill()
    assert second.end(driver) == -signal.SIGKILL
    wait_until("the end of all of them", lambda: not alive(family))
    assert not list(second.cache.glob("training/*/*/*.crew")), "rows lie about"

    # Another number of processes is another training.
    assert second.end(second.start()) == ExitCode.SETTINGS
    assert "processes was 2, is 1" in second.errors.read_text()
    assert second.artifact(**two) == Machine(tmp_path / "whole", "sft").artifact(**two) != undisturbed["sft"]
