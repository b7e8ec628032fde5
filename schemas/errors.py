"""Errors a person reads: what went wrong, where, what was kept, and the next command to type."""

from __future__ import annotations

import errno
from enum import IntEnum


class ExitCode(IntEnum):
    """One code per class of error, so that a scheduler can tell a typing slip from a lost bucket."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    SETTINGS = 3
    STORAGE = 4
    NOT_FOUND = 5
    DATA = 6
    NIGHT_STOPPED = 7
    MISSING_EXTRA = 8
    CONFLICT = 9
    INTERRUPTED = 130


class Medgr2Error(Exception):
    """`what` happened `where`; `kept` is safe; `next_command` is what to do about it."""

    exit_code = ExitCode.INTERNAL

    def __init__(self, what: str, *, where: str = "", kept: str = "", next_command: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.kept = kept
        self.next_command = next_command

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.kept:
            lines.append(f"  kept:  {self.kept}")
        if self.next_command:
            lines.append(f"  next:  {self.next_command}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (Ray, Prefect): the default would lose the keyword arguments.
        return (_rebuild, (type(self), self.what, self.where, self.kept, self.next_command))


def _rebuild(kind: type[Medgr2Error], what: str, where: str, kept: str, next_command: str) -> Medgr2Error:
    return kind(what, where=where, kept=kept, next_command=next_command)


NO_SPACE = "No space left on device"


def says_full(e: Exception) -> bool:
    """Whatever library the operating system's word came through."""
    return getattr(e, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or NO_SPACE in str(e)


def after_a_full_disk(e: Exception, otherwise: str) -> str:
    """The next command after a failed write: a full disk needs room, not a doctor."""
    return "free space, then run the same command again" if says_full(e) else otherwise


class UsageError(Medgr2Error):
    exit_code = ExitCode.USAGE


class SettingsError(Medgr2Error):
    exit_code = ExitCode.SETTINGS


class StorageError(Medgr2Error):
    exit_code = ExitCode.STORAGE


class NotFoundError(Medgr2Error):
    exit_code = ExitCode.NOT_FOUND


class DataError(Medgr2Error):
    exit_code = ExitCode.DATA


class NightStoppedError(Medgr2Error):
    """The night was ended on purpose: too many failures, a conservation breach, a gate that would not open."""

    exit_code = ExitCode.NIGHT_STOPPED


class NightInterruptedError(NightStoppedError):
    """A signal asked for the end, and what was under way has saved what it had."""

    exit_code = ExitCode.INTERRUPTED


class MissingExtraError(Medgr2Error):
    exit_code = ExitCode.MISSING_EXTRA


class ConflictError(Medgr2Error):
    """Somebody else committed first, and trying again did not help within the deadline."""

    exit_code = ExitCode.CONFLICT
