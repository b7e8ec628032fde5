"""SIGTERM and Ctrl-C while a stage runs: KeyboardInterrupt at once or, where outcomes are being handed over, at the
next place that waits. Anywhere else it would take with it what a server has answered, and was paid for.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_putting_off = False
_put_off: str | None = None
"""The signal that came meanwhile."""


@contextlib.contextmanager
def end_stage() -> Iterator[None]:
    """SIGTERM ends what runs as Ctrl-C does. A second SIGTERM changes nothing, a second Ctrl-C is impatience."""
    if not _main():
        yield
        return
    before: dict[signal.Signals, Any] = {signal.SIGTERM: signal.getsignal(signal.SIGTERM)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.default_int_handler
    for number in before:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    global _put_off
    signal.signal(number, signal.SIG_IGN if number == signal.SIGTERM else signal.default_int_handler)
    if _putting_off:
        _put_off = signal.Signals(number).name
    else:
        raise KeyboardInterrupt(signal.Signals(number).name)


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """For whoever hands outcomes over, and reaches `waiting` or `heed` often enough."""
    global _putting_off, _put_off
    if not _main():
        yield
        return
    _putting_off = True
    try:
        yield
        heed()
    finally:
        _putting_off, _put_off = False, None


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Nothing is in hand here that an interrupt could take."""
    global _putting_off
    if not _main():
        yield
        return
    before, _putting_off = _putting_off, False
    try:
        heed()
        yield
    finally:
        _putting_off = before


def heed() -> None:
    global _put_off
    if not _main():
        return
    name, _put_off = _put_off, None
    if name is not None:
        raise KeyboardInterrupt(name)


def _main() -> bool:
    """Signals are the main thread's; a stage in another one ends with its process."""
    return threading.current_thread() is threading.main_thread()
