"""The server's book: what it was asked, what it sold, and how many requests it held at every moment."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from typing import Any


class Book:
    def __init__(self, log: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._log = os.open(log, flags, 0o644) if log else None
        self.in_flight = 0
        self.sold_ever = 0
        self.clear()

    def clear(self) -> None:
        self.asked: Counter[bytes] = Counter()
        """Content digests."""
        self._sold: Counter[bytes] = Counter()
        self._status: Counter[int] = Counter()
        self._faults: Counter[str] = Counter()
        self._requests = self._highest = 0
        self._seconds: dict[int, float] = defaultdict(float)
        """In flight -> for how long."""
        self._steady: dict[int, float] = {}
        """The same up to when the latest request came in: afterwards there may have been nothing left to ask."""
        self._since = time.perf_counter()

    def comes(self) -> None:
        self._passes()
        self._requests += 1
        self._steady = dict(self._seconds)
        self.in_flight += 1
        self._highest = max(self._highest, self.in_flight)

    def leaves(self, status: int) -> None:
        self._passes()
        self.in_flight -= 1
        self._status[status] += 1

    def sells(self, digest: bytes) -> None:
        """A reply that is written is paid for, whether or not anybody is still there to read it."""
        self.sold_ever += 1
        self._sold[digest] += 1
        if self._log is not None:
            os.write(self._log, f"{digest.hex()} {time.time():.6f}\n".encode())

    def harms(self, fault: str) -> None:
        self._faults[fault] += 1

    def _passes(self) -> None:
        now = time.perf_counter()
        if self._requests:
            self._seconds[self.in_flight] += now - self._since
        self._since = now

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self._requests,
            "completions": self._sold.total(),
            "contents": len(self.asked),
            "sold": len(self._sold),
            "sold_again": self._sold.total() - len(self._sold),
            "status": {str(code): n for code, n in sorted(self._status.items())},
            "faults": dict(self._faults),
            "in_flight": self.in_flight,
            "in_flight_max": self._highest,
            "seconds_at": {str(level): round(s, 6) for level, s in sorted(self._seconds.items())},
            "steady_seconds_at": {str(level): round(s, 6) for level, s in sorted(self._steady.items())},
        }
