"""SIGTERM and Ctrl-C while a stage runs: KeyboardInterrupt at once or, where somebody holds what a server has answered
and was paid for, when that was handed over.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_putting_off = False
_put_off: str | None = None
"""The signal that came meanwhile."""
_wake: Callable[[], None] | None = None


@contextlib.contextmanager
def end_stage() -> Iterator[None]:
    """SIGTERM ends what runs as Ctrl-C does. A second SIGTERM changes nothing, a second Ctrl-C is impatience."""
    global _put_off
    if not _main():
        yield
        return
    before: dict[signal.Signals, Any] = {signal.SIGTERM: signal.getsignal(signal.SIGTERM)}
    if callable(signal.getsignal(signal.SIGINT)):  # not where it is ignored, as in the background of a shell
        before[signal.SIGINT] = signal.getsignal(signal.SIGINT)
    for number in before:
        signal.signal(number, _stop)
    try:
        yield
        heed()
    finally:
        _put_off = None
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    global _put_off
    signal.signal(number, signal.SIG_IGN if number == signal.SIGTERM else signal.default_int_handler)
    if not _putting_off:
        raise KeyboardInterrupt(signal.Signals(number).name)
    _put_off = signal.Signals(number).name
    if _wake is not None:
        _wake()


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """For whoever holds something that an interrupt between any two steps could take, and reaches `heed` often enough.
    An error that ends it is not hidden by a signal, which is raised where it is heeded next."""
    global _putting_off
    if not _main():
        yield
        return
    before, _putting_off = _putting_off, True
    try:
        yield
    finally:
        _putting_off = before
    if not before:
        heed()


@contextlib.contextmanager
def woken(wake: Callable[[], None]) -> Iterator[None]:
    """While the caller waits: `wake` is called by a signal that is put off, and has to end the wait soon."""
    global _wake
    if not _main():
        yield
        return
    before, _wake = _wake, wake
    try:
        yield
    finally:
        _wake = before


def pending() -> bool:
    return _put_off is not None


def heed() -> None:
    """Raise what was put off; in the thread that signals come to."""
    global _put_off
    if not _main():
        return
    name, _put_off = _put_off, None
    if name is not None:
        raise KeyboardInterrupt(name)


def _main() -> bool:
    """Signals are the main thread's; a stage in another one ends with its process."""
    return threading.current_thread() is threading.main_thread()
