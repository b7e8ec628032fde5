"""Notice to quit: SIGTERM or Ctrl-C asks whoever listens to save what there is and leave, instead of ending it at once.

One process has one notice. Where nobody listens a signal does what it did before.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_given = threading.Event()
_listeners = 0
_since = 0.0


def given() -> bool:
    return _given.is_set()


def age() -> float:
    """Seconds since notice was given; 0 without one."""
    return time.monotonic() - _since if _given.is_set() else 0.0


def give() -> bool:
    """False where nobody listens."""
    global _since
    if _listeners == 0:
        return False
    if not _given.is_set():
        _since = time.monotonic()
        _given.set()
    return True


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """The caller looks at `given` often enough. In the main thread the signals are turned into notice meanwhile;
    elsewhere the owner of the process has to have done it with `turn_signals`."""
    global _listeners
    _listeners += 1
    before = turn_signals() if threading.current_thread() is threading.main_thread() else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _listeners -= 1
        if _listeners == 0:
            _given.clear()


def turn_signals() -> dict[signal.Signals, Any]:
    """What the handlers were. A second Ctrl-C is impatience, and does what the first would have done."""
    return {number: signal.signal(number, _handler(signal.getsignal(number))) for number in SIGNALS}


def _handler(before: Any) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        impatient = number == signal.SIGINT and _given.is_set()
        if (impatient or not give()) and before is not signal.SIG_IGN:
            if callable(before):
                before(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

    return handle
