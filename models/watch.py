"""The watchdog of a training: it runs in a thread of its own, and whoever waits for it keeps the time."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from medgr2.infra import notice
from medgr2.schemas.errors import NightInterruptedError, NightStoppedError

T = TypeVar("T")
TICK_SECONDS = 0.2
_waits: dict[int, list[str]] = {}


@contextlib.contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """What a watchdog says the training was waiting for, if this takes too long."""
    stack = _waits.setdefault(threading.get_ident(), [])
    stack.append(what)
    try:
        yield
    finally:
        stack.pop()


class Abandoned(BaseException):
    """Ends the thread of a training that nobody waits for any more, before it writes another byte."""


class Watch:
    def __init__(self, stall_seconds: float, grace_seconds: float) -> None:
        self._stall, self._grace = stall_seconds, grace_seconds
        self._last = time.monotonic()
        self._abandoned = False
        self.saved = 0
        """The newest step that is in a checkpoint."""

    def beat(self) -> None:
        """The training got on by a step. Called in its own thread."""
        if self._abandoned:
            raise Abandoned
        self._last = time.monotonic()

    def run(self, job: Callable[[], T]) -> T:
        """What the job returns or raises; an error as soon as it stands still, or does not leave when it has to."""
        said: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def live() -> None:
            try:
                said.put((job(), None))
            except BaseException as error:
                said.put((None, error))
            finally:
                _waits.pop(threading.get_ident(), None)

        # A daemon: one that hangs must not keep the process from ending.
        thread = threading.Thread(target=copy_context().run, args=(live,), name="training", daemon=True)
        self._last = time.monotonic()
        with notice.heeded(), self._left_behind():
            thread.start()
            while True:
                try:
                    result, error = said.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    self._look_at(thread)
                    continue
                if error is not None:
                    raise error
                return result  # type: ignore[return-value]

    def _look_at(self, thread: threading.Thread) -> None:
        if (still := time.monotonic() - self._last) > self._stall:
            raise NightStoppedError(
                f"the training made no step for {still:.0f} s: it waited for {_doing(thread)}",
                where="MEDGR2_TRAINING__STALL_SECONDS",
                kept=self._kept(),
                next_command="mend what it waited for, then give the same command again",
            )
        if notice.age() > self._grace:
            raise NightInterruptedError(
                f"the training was asked to stop, and its step did not end within {self._grace:g} s: "
                f"it waited for {_doing(thread)}",
                kept=self._kept(),
                next_command="give the same command again: it goes on from there",
            )

    def _kept(self) -> str:
        return f"the checkpoint of step {self.saved}" if self.saved else "no step of this training: it had just begun"

    @contextlib.contextmanager
    def _left_behind(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._abandoned = True


def _doing(thread: threading.Thread) -> str:
    """Named by itself, or else its place in the code."""
    if named := _waits.get(thread.ident or 0):
        return named[-1]
    frame: Any = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "nothing that can be seen"
    calls = traceback.extract_stack(frame)
    inner = calls[-1]
    ours = next((c for c in reversed(calls) if {"trl", "transformers", "models"} & set(Path(c.filename).parts)), inner)
    return f"{_place(ours)}, which is in {_place(inner)}" if ours is not inner else _place(inner)


def _place(call: traceback.FrameSummary) -> str:
    return f"{call.name} ({Path(call.filename).name}, line {call.lineno})"
