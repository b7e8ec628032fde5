"""Runs one program to its end and tells what it and all its descendants used, also of those that outlived their
parent: python measured.py REPORT.json SECONDS PROGRAM ARGUMENT ...

A process of its own, so that what it has waited for is that program and nothing else. Linux only.

The kernel forgets what the children of a process used that ignores SIGCHLD, as the raylet of Ray does: these are
looked at while they live. Of their last moment, up to LOOK_SECONDS, nothing is known; nor is their peak of memory.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

SUBREAPER = 36
GRACE_SECONDS = 20.0
LOOK_SECONDS = 0.1
TICKS = os.sysconf("SC_CLK_TCK")
IGNORES_CHILDREN = 1 << (signal.SIGCHLD - 1)


class Forgotten:
    """CPU of the descendants that nobody will have waited for."""

    def __init__(self) -> None:
        self._family = {os.getpid()}
        self._seconds: dict[int, float] = {}

    def look(self) -> None:
        parents: dict[int, int] = {}
        used: dict[int, float] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    after_name = (folder / "stat").read_text().rpartition(")")[2].split()
                except (OSError, ValueError):
                    continue
                parents[int(folder.name)] = int(after_name[1])
                used[int(folder.name)] = sum(map(int, after_name[11:15])) / TICKS
        self._family &= {os.getpid(), *parents}
        while more := {pid for pid, of in parents.items() if of in self._family} - self._family:
            self._family |= more
        careless = {parent for parent in self._family if _ignores_children(parent)}
        self._seconds.update((pid, used[pid]) for pid, of in parents.items() if pid in self._family and of in careless)

    def waited_for(self, pid: int) -> None:
        self._seconds.pop(pid, None)

    @property
    def cpu(self) -> float:
        return sum(self._seconds.values())


def main() -> int:
    report, seconds, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    forgotten = Forgotten()
    began = time.monotonic()
    program = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: program.kill())
    while (status := _ended(program)) is None:
        forgotten.look()
        if time.monotonic() - began > float(seconds):
            status = 124
            program.kill()
            program.wait()
            break
    wall = time.monotonic() - began
    _wait_for_the_rest(forgotten)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {
        "status": status,
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime + forgotten.cpu,
        "peak_mb": used.ru_maxrss / 1024,
    }
    Path(report).write_text(json.dumps(told))
    return 0


def _ended(program: subprocess.Popen[bytes]) -> int | None:
    try:
        return program.wait(LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _wait_for_the_rest(forgotten: Forgotten) -> None:
    """Descendants that nobody waits for are ours now; those that do not end by themselves are ended."""
    end = time.monotonic() + GRACE_SECONDS
    while True:
        forgotten.look()
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            forgotten.waited_for(pid)
            continue
        if time.monotonic() > end:
            for child in _children():
                os.kill(child, signal.SIGKILL)
            end = time.monotonic() + GRACE_SECONDS
        time.sleep(0.05)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _ignores_children(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    (ignored,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored, 16) & IGNORES_CHILDREN)


if __name__ == "__main__":
    sys.exit(main())
