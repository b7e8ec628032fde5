"""Runs one program to its end and tells what it and all its descendants used, also of those that outlived their
parent: python measured.py REPORT.json SECONDS PROGRAM ARGUMENT ...

A process of its own, so that what it has waited for is that program and nothing else. Linux only.
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


def main() -> int:
    report, seconds, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    program = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: program.kill())
    try:
        status = program.wait(float(seconds))
    except subprocess.TimeoutExpired:
        status = 124
        program.kill()
        program.wait()
    wall = time.monotonic() - began
    _wait_for_the_rest()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {
        "status": status,
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }
    Path(report).write_text(json.dumps(told))
    return 0


def _wait_for_the_rest() -> None:
    """Descendants that nobody waits for are ours now; those that do not end by themselves are ended."""
    end = time.monotonic() + GRACE_SECONDS
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            continue
        if time.monotonic() > end:
            for child in _children():
                os.kill(child, signal.SIGKILL)
            end = time.monotonic() + GRACE_SECONDS
        time.sleep(0.05)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


if __name__ == "__main__":
    sys.exit(main())
