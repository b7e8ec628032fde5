"""The watchdog: a training that hangs is left behind with the name of what it waited for."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from medgr2.models.watch import Abandoned, Watch, waiting_for
from medgr2.schemas.errors import DataError, NightInterruptedError, NightStoppedError

STALL = 60.0
DEADLINE_SECONDS = 600


class Clock:
    """The watch's own: it moves when a test moves it, whatever the machine does."""

    def __init__(self) -> None:
        self.now = 0.0
        self._looks = 0

    def monotonic(self) -> float:
        self._looks += threading.current_thread().name != "training"
        return self.now

    def passes(self, seconds: float) -> None:
        """Until the watch has seen it."""
        self.now += seconds
        before, end = self._looks, time.monotonic() + DEADLINE_SECONDS
        while self._looks == before:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("medgr2.models.watch.time", clock)
    return clock


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set when the test is: what hangs ends then."""
    event = threading.Event()
    yield event
    event.set()


def test_what_the_job_returns_or_raises_comes_out(clock: Clock) -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")
    name.set("caller")
    watch = Watch(10, 10)
    assert watch.run(lambda: (name.get(), threading.current_thread().name)) == ("caller", "training")

    def fails() -> None:
        raise DataError("a reason")

    with pytest.raises(DataError, match="a reason"):
        Watch(10, 10).run(fails)


def test_a_named_wait_is_told_and_the_innermost_one(clock: Clock, over: threading.Event) -> None:
    def hangs() -> None:
        with waiting_for("the outer"):
            with waiting_for("something that ended"):
                pass
            with waiting_for("the reward server"):
                clock.now += STALL + 1
                over.wait(DEADLINE_SECONDS)

    with pytest.raises(NightStoppedError, match="made no step for 61 s: it waited for the reward server") as stopped:
        Watch(STALL, 10).run(hangs)
    assert stopped.value.kept == "no step of this training: it had just begun"


def test_a_wait_without_a_name_is_told_by_its_place_in_the_code(clock: Clock) -> None:
    """A hung socket: nothing in Python could be interrupted, and the caller is free all the same."""
    listener = socket.create_server(("127.0.0.1", 0))
    watch = Watch(STALL, 10)
    watch.saved = 40

    def hangs() -> None:
        with socket.create_connection(listener.getsockname()) as silent:
            clock.now += STALL + 1
            silent.recv(1)

    with pytest.raises(NightStoppedError, match=r"it waited for hangs \(test_watch.py, line \d+\)") as stopped:
        watch.run(hangs)
    assert stopped.value.kept == "the checkpoint of step 40"
    listener.close()


def test_steps_keep_it_alive(clock: Clock) -> None:
    watch = Watch(STALL, 10)

    def slow() -> str:
        for _ in range(3):
            clock.passes(0.9 * STALL)
            watch.beat()
        return "done"

    assert watch.run(slow) == "done"


def test_one_that_was_left_behind_goes_no_further(clock: Clock) -> None:
    watch, reached = Watch(STALL, 10), []
    left, ended = threading.Event(), threading.Event()

    def slow() -> None:
        try:
            watch.beat()
            clock.now += 2 * STALL
            left.wait(DEADLINE_SECONDS)
            watch.beat()
            reached.append("a step after its end")
        except Abandoned:
            ended.set()
            raise

    with pytest.raises(NightStoppedError):
        watch.run(slow)
    left.set()
    assert ended.wait(DEADLINE_SECONDS)
    assert reached == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_that_outlasts_the_grace_is_left(number: signal.Signals, clock: Clock, over: threading.Event) -> None:
    began = threading.Event()

    def long() -> Any:
        with waiting_for("a long step"):
            began.set()
            over.wait(DEADLINE_SECONDS)

    def asks_to_stop() -> None:
        if began.wait(DEADLINE_SECONDS):
            os.kill(os.getpid(), number)

    threading.Thread(target=asks_to_stop, daemon=True).start()
    with pytest.raises(NightInterruptedError, match=r"did not end within 0.3 s: it waited for a long step"):
        Watch(STALL, 0.3).run(long)
