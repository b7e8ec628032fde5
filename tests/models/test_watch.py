"""The watchdog: a training that hangs is left behind with the name of what it waited for."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextvars import ContextVar
from typing import Any

import pytest

from medgr2.models.watch import Abandoned, Watch, waiting_for
from medgr2.schemas.errors import DataError, NightInterruptedError, NightStoppedError

SOON = 0.6
DEADLINE_SECONDS = 30


def test_what_the_job_returns_or_raises_comes_out() -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")
    name.set("caller")
    watch = Watch(10, 10)
    assert watch.run(lambda: (name.get(), threading.current_thread().name)) == ("caller", "training")

    def fails() -> None:
        raise DataError("a reason")

    with pytest.raises(DataError, match="a reason"):
        Watch(10, 10).run(fails)


def test_a_named_wait_is_told_and_the_innermost_one() -> None:
    def hangs() -> None:
        with waiting_for("the outer"):
            with waiting_for("something that ended"):
                pass
            with waiting_for("the reward server"):
                time.sleep(DEADLINE_SECONDS)

    with pytest.raises(NightStoppedError, match="made no step for 1 s: it waited for the reward server") as stopped:
        Watch(SOON, 10).run(hangs)
    assert stopped.value.kept == "no step of this training: it had just begun"


def test_a_wait_without_a_name_is_told_by_its_place_in_the_code() -> None:
    """A hung socket: nothing in Python could be interrupted, and the caller is free all the same."""
    listener = socket.create_server(("127.0.0.1", 0))
    watch = Watch(SOON, 10)
    watch.saved = 40

    def hangs() -> None:
        with socket.create_connection(listener.getsockname()) as silent:
            silent.recv(1)

    with pytest.raises(NightStoppedError, match=r"it waited for hangs \(test_watch.py, line \d+\)") as stopped:
        watch.run(hangs)
    assert stopped.value.kept == "the checkpoint of step 40"
    listener.close()


def test_steps_keep_it_alive_and_one_that_was_left_behind_goes_no_further() -> None:
    watch, reached = Watch(SOON, 10), []
    ended = threading.Event()

    def slow(steps: int, last: float) -> str:
        try:
            for _ in range(steps):
                time.sleep(SOON / 3)
                watch.beat()
            time.sleep(last)
            watch.beat()
            reached.append("a step after its end")
        except Abandoned:
            ended.set()
            raise
        return "done"

    assert watch.run(lambda: slow(6, 0)) == "done"
    reached.clear()
    watch = Watch(SOON, 10)
    with pytest.raises(NightStoppedError):
        watch.run(lambda: slow(1, 2 * SOON))
    assert ended.wait(DEADLINE_SECONDS)
    assert reached == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_that_outlasts_the_grace_is_left(number: signal.Signals) -> None:
    began = threading.Event()

    def long() -> Any:
        began.set()
        with waiting_for("a long step"):
            time.sleep(DEADLINE_SECONDS)

    threading.Thread(target=lambda: (began.wait(5), os.kill(os.getpid(), number)), daemon=True).start()
    with pytest.raises(NightInterruptedError, match=r"did not end within 0.3 s: it waited for a long step"):
        Watch(DEADLINE_SECONDS, 0.3).run(long)
