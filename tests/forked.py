"""Processes of a test, forked from one that has imported the libraries and done nothing else.

A driver that is started forty times to be killed imports the same libraries forty times, seven seconds each where it
trains. `Forked` is a `subprocess.Popen` for programs of ours: a process of its own, with an environment of its own, to
be signalled and killed by its id. What the tests import themselves is not in it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
# One list for all: the process that is forked is started once, by whoever needs it first. What is not installed is
# passed over. Nothing here may start a thread, or read a setting, when it is imported.
PROCESSES.set_forkserver_preload(
    [
        *("trl.trainer.sft_trainer", "trl.trainer.grpo_trainer", "datasets", "peft", "PIL.PngImagePlugin"),
        *(f"transformers.models.idefics3.{n}_idefics3" for n in ("modeling", "processing", "image_processing_pil")),
        *("transformers.models.llama.modeling_llama", "deltalake", "duckdb", "boto3"),
        *("medgr2.models.sft", "medgr2.models.grpo", "medgr2.models.reward_training"),
        *("medgr2.tasks.training_cell", "medgr2.tasks.stage"),
    ]
)


class Forked:
    """`python PROGRAM ARGUMENTS`, with what it prints at the end of two files."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], out: Path, err: Path) -> None:
        self._files = (out, err)
        self._begin = [path.stat().st_size if path.exists() else 0 for path in self._files]
        # A daemon, so that one that a failed test leaves behind is ended with the tests.
        self._process = PROCESSES.Process(
            target=_become, args=(list(command), dict(environment), str(out), str(err)), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return self._process.exitcode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it printed, when it has ended."""
        self.wait(timeout)
        out, err = (path.read_bytes()[begin:].decode() for path, begin in zip(self._files, self._begin, strict=True))
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become(command: list[str], environment: dict[str, str], out: str, err: str) -> None:
    for path, stream in ((out, 1), (err, 2)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, stream)
        os.close(handle)
    os.environ.clear()
    os.environ.update(environment)
    program = Path(command[0])
    sys.argv = command
    # As Python itself would: the program's folder first, and nothing of the tests that started it.
    ours = str(Path(__file__).parent)
    kept = [path for path in sys.path if not path.startswith(ours)]
    sys.path[:] = [str(program.parent), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *kept]
    runpy.run_path(str(program), run_name="__main__")
