"""Group commit: what finishes within a moment, or while the last group is written, is the next group."""

from __future__ import annotations

import threading
from types import TracebackType

from medgr2.infra.journal import FAN_IN, Journal
from medgr2.schemas.cells import Outcome

GATHER_SECONDS = 0.02
"""A group costs one and a half milliseconds of CPU, its later merging included, however few are in it."""
FULL = 256
"""So many are a group at once."""
BACKLOG = 20_000
"""Producers wait above this: a store that is slower than the work bounds the memory, not the loss."""


class JournalWriter:
    """add() returns at once; close() and flush() return when everything added is durable, or raise what went wrong.

    Merging has its own thread: a finished cell waits for one write, never for a merge.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._changed = threading.Condition()
        self._pending: list[Outcome] = []
        self._writing = False
        self._closed = False
        self._hurried = False
        self._groups = 0
        self._durable = 0
        self._error: BaseException | None = None
        self._merge_wanted = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, name="journal-writer", daemon=True),
            threading.Thread(target=self._merge, name="journal-merger", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def durable(self) -> int:
        """How many of the added outcomes are; raises what went wrong, since then there will be no more."""
        with self._changed:
            self._raise_error()
            return self._durable

    def hurry(self) -> None:
        """Somebody waits for what was added to be durable."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def add(self, outcome: Outcome) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._pending) < BACKLOG or self._error is not None)
            self._raise_error()
            self._pending.append(outcome)
            if len(self._pending) in (1, FULL):  # each wakes the writer, which costs more than the rest
                self._changed.notify_all()

    def flush(self) -> None:
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._pending or self._writing) or self._error is not None)
            self._raise_error()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._threads[0].join()
        self._merge_wanted.set()
        self._threads[1].join()
        with self._changed:
            self._raise_error()

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _enough(self) -> bool:
        return self._hurried or self._closed or len(self._pending) >= FULL

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closed)
                self._changed.wait_for(self._enough, GATHER_SECONDS)
                group, self._pending, self._hurried = self._pending, [], False
                if not group:
                    return
                self._writing = True
                self._changed.notify_all()
            try:
                self._journal.append(group)
            except BaseException as e:
                with self._changed:
                    self._error = e
                    self._changed.notify_all()
                return
            self._groups += 1
            if self._groups % FAN_IN == 0:
                self._merge_wanted.set()
            with self._changed:
                self._writing = False
                self._durable += len(group)
                self._changed.notify_all()

    def _merge(self) -> None:
        while True:
            self._merge_wanted.wait()
            self._merge_wanted.clear()
            with self._changed:
                last = self._closed or self._error is not None
            try:
                self._journal.merge()
            except Exception as e:
                # Nothing is lost when a merge fails, but whoever waits must hear that the store is not well.
                with self._changed:
                    self._error = self._error or e
                    self._changed.notify_all()
                return
            if last:
                return
