"""Memory handed back, since allocators keep what was freed, once a thread, and that looks like a leak in a long run;
and how much of it there is."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pyarrow as pa

_M_ARENA_MAX = -8
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def spare() -> None:
    """From now on: one heap for all threads, and Arrow on it. For processes that run long and hold little."""
    pa.set_memory_pool(pa.system_memory_pool())
    if mallopt := getattr(_LIBC, "mallopt", None):
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    if trim := getattr(_LIBC, "malloc_trim", None):
        trim(0)


def available(root: Path = Path("/")) -> int | None:
    """Bytes that may still be taken: what the machine has left, or its container. None where nobody says."""
    told = [_of_machine(root / "proc/meminfo"), *_of_container(root / "sys/fs/cgroup")]
    known = [left for left in told if left is not None]
    return max(0, min(known)) if known else None


def _of_machine(meminfo: Path) -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _of_container(cgroup: Path) -> list[int | None]:
    """Of both generations of control groups: the limit less what is used and could not be dropped."""
    second = cgroup / "memory.max", cgroup / "memory.current", cgroup / "memory.stat", "inactive_file"
    old = cgroup / "memory"
    first = old / "memory.limit_in_bytes", old / "memory.usage_in_bytes", old / "memory.stat", "total_inactive_file"
    return [_left(*files) for files in (second, first)]


def _left(limit: Path, used: Path, stat: Path, droppable: str) -> int | None:
    try:
        drop = dict(line.split() for line in stat.read_text().splitlines()).get(droppable, "0")
        return int(limit.read_text()) - int(used.read_text()) + int(drop)
    except (OSError, ValueError):  # no control group, or one without a limit: "max"
        return None
