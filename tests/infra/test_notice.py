"""Notice to quit: heard while somebody listens, and else a signal does what it always did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from medgr2.infra import notice


def test_a_signal_gives_notice_while_somebody_listens_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with notice.heeded():
        assert not notice.given()
        assert notice.age() == 0.0
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.given()
        os.kill(os.getpid(), signal.SIGTERM)  # an impatient scheduler
        assert notice.age() >= 0.0
    assert signal.getsignal(signal.SIGTERM) is before
    assert not notice.given(), "the next training of this process begins without one"


def test_a_second_interrupt_is_impatience() -> None:
    with pytest.raises(KeyboardInterrupt), notice.heeded():  # noqa: PT012  the first one does not raise
        os.kill(os.getpid(), signal.SIGINT)
        assert notice.given()
        os.kill(os.getpid(), signal.SIGINT)


def test_in_a_thread_nothing_is_changed_and_notice_can_be_given() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def listen() -> None:
        with notice.heeded():
            seen.append(signal.getsignal(signal.SIGTERM))
            seen.append(notice.give())
            seen.append(notice.given())

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join(400)
    assert seen == [before, True, True]
    assert not notice.give(), "nobody listens"


@pytest.mark.parametrize("before", ["SIG_DFL", "SIG_IGN"])
def test_where_nobody_listens_a_turned_signal_does_what_it_did(before: str) -> None:
    code = (
        "import os, signal\nfrom medgr2.infra import notice\n"
        f"signal.signal(signal.SIGTERM, signal.{before})\nnotice.turn_signals()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\nprint('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400, check=False)
    assert (done.returncode, done.stdout) == ((-signal.SIGTERM, "") if before == "SIG_DFL" else (0, "alive\n"))
