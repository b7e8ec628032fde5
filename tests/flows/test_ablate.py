"""Seeds of an ablation in processes of their own: none outlives the command that asked for it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

COMMAND = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from medgr2.flows.ablate import end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 900).result()
"""


def test_a_killed_command_leaves_no_seed_behind(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        child = Path("/proc") / command.stdout.readline().strip()
        assert child.exists()
        command.kill()
    deadline = time.monotonic() + 300
    while child.exists() and _state(child) != "Z":
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.1)


def _state(process: Path) -> str:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
