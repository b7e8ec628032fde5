"""A signal ends a stage at once, or where it waits next."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest

from medgr2.infra import interrupts

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def told(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    for _ in range(3):  # a handler runs between two steps of the interpreter
        pass


@pytest.mark.parametrize("number", SIGNALS)
def test_at_once_and_the_handlers_are_what_they_were(number: signal.Signals) -> None:
    before, reached = signal.getsignal(number), []
    with pytest.raises(KeyboardInterrupt, match=number.name), interrupts.end_stage():  # noqa: PT012
        told(number)
        reached.append("behind it")
    assert reached == []
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("where", ["heed", "its end", "the next one that heeds", "the end of the stage"])
def test_put_off_to_where_it_is_heeded(number: signal.Signals, where: str) -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt, match=number.name), interrupts.end_stage():  # noqa: PT012
        with contextlib.suppress(ValueError), interrupts.put_off():
            told(number)
            reached.append("handed over")
            if where == "heed":
                interrupts.heed()
            if where != "its end":
                raise ValueError
        reached.append("went on")
        if where == "the next one that heeds":
            with interrupts.put_off():
                interrupts.heed()
                reached.append("did not heed")
    assert reached == ["handed over"] if where in ("heed", "its end") else ["handed over", "went on"]
    assert not interrupts.pending()


def test_who_waits_is_woken_and_nothing_is_raised_meanwhile() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts.end_stage(), interrupts.put_off():  # noqa: PT012
        with interrupts.woken(lambda: reached.append("woken")):
            told(signal.SIGTERM)
            reached.append("waited on")
        assert interrupts.pending()
    assert reached == ["woken", "waited on"]


def test_a_handler_of_somebody_else_is_not_in_the_way_of_ctrl_c() -> None:
    others: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: others.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.end_stage():
            told(signal.SIGINT)
        told(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert others == [signal.SIGINT]


def test_impatience_of_a_scheduler_changes_nothing_and_that_of_a_person_does() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts.end_stage(), interrupts.put_off():  # noqa: PT012
        told(signal.SIGTERM)
        told(signal.SIGTERM)
        told(signal.SIGINT)
        reached.append("handed over")
        told(signal.SIGINT)
        reached.append("went on")
    assert reached == ["handed over"]


def test_an_error_is_not_hidden_by_a_signal_that_was_put_off() -> None:
    with pytest.raises(ValueError, match="mine"), interrupts.end_stage(), interrupts.put_off():  # noqa: PT012
        told(signal.SIGTERM)
        raise ValueError("mine")
    assert not interrupts.pending()


def test_another_thread_has_no_part_in_it() -> None:
    inside, done = threading.Event(), threading.Event()

    def elsewhere() -> None:
        with interrupts.end_stage(), interrupts.put_off():
            inside.set()
            done.wait(400)

    other = threading.Thread(target=elsewhere)
    other.start()
    assert inside.wait(400)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.end_stage():  # noqa: PT012
            told(signal.SIGTERM)
            pytest.fail("it was put off by the other thread")
    finally:
        done.set()
        other.join()
