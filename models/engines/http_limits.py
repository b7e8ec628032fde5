"""How many may wait for a server at once, and when: adapted to what the server says. No sockets and no clock here."""

from __future__ import annotations

CROWDED = 0.2
"""Share of busy replies in a window above which there are too many of us. A sprinkle of them is the server's noise."""
QUIET = 0.05
SMALLEST_WINDOW = 16
OPENS_AFTER = 8
"""So many bad replies in a row, none good between them, mean the server and not the requests."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


class Gauge:
    """Additive increase, multiplicative decrease; judged once a window of as many replies as may be in flight."""

    def __init__(self, most: int) -> None:
        self.limit = most
        self._most = most
        self._replies = self._busy = 0

    def heard(self, *, busy: bool) -> None:
        self._replies += 1
        self._busy += busy
        if self._replies < max(SMALLEST_WINDOW, self.limit):
            return
        share = self._busy / self._replies
        if share > CROWDED:
            self.limit = max(1, int(self.limit * max(0.5, 1 - share)))
        elif share <= QUIET:
            self.limit = min(self._most, self.limit + 1)
        self._replies = self._busy = 0


class Breaker:
    """Open after many bad replies in a row: then one request at a time is let through, ever more seldom, until one
    is answered well."""

    def __init__(self, opens_after: int) -> None:
        self._opens_after = max(OPENS_AFTER, opens_after)
        self._bad = 0
        self._pause = FIRST_PAUSE

    @property
    def open(self) -> bool:
        return self._bad >= self._opens_after

    def good(self) -> None:
        self._bad = 0
        self._pause = FIRST_PAUSE

    def bad(self) -> float:
        """Seconds in which nobody should ask."""
        self._bad += 1
        if not self.open:
            return 0.0
        pause = self._pause
        self._pause = min(LONGEST_PAUSE, 2 * pause)
        return pause


def backoff(tries: int, seed: int) -> float:
    """Seconds before one request is tried again; the seed spreads those that failed together."""
    spread = 0.5 + (seed * 2654435761 % 1000) / 1000
    return float(min(LONGEST_PAUSE, 0.2 * 2 ** min(tries, 10)) * spread)
