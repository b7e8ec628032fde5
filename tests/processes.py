"""Who a process has started, and who of them is still there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_BEGAN = 19
"""Where the fields of a process, behind its name, tell when it began."""


class Known(int):
    """A process by its number, which goes to another one some day, and the time that it began."""

    began: str


def known(pid: int) -> int:
    found = Known(pid)
    found.began = (_fields(pid) or [""] * 20)[_BEGAN]
    return found


def children(pid: int) -> list[int]:
    """All descendants."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if fields := _fields(folder.name):
            child = Known(folder.name)
            child.began = fields[_BEGAN]
            parents.setdefault(int(fields[1]), []).append(child)
    found, look = [], [pid]
    while look:
        new = parents.get(look.pop(), [])
        found += new
        look += new
    return found


def alive(pids: Iterable[int]) -> list[int]:
    def lives(pid: int) -> bool:
        fields = _fields(pid)
        return bool(fields) and fields[0] != "Z" and fields[_BEGAN] == getattr(pid, "began", fields[_BEGAN])

    return [pid for pid in pids if lives(pid)]


def _fields(pid: int | str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
