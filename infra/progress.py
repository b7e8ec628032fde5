"""How far a stage is: one line that renews itself, and nothing at all when nobody looks."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TextIO

EVERY_SECONDS = 0.2


@dataclass(slots=True)
class Tally:
    """Counts of the cells that this run works on."""

    total: int
    done: int = 0
    failed: int = 0


class ProgressLine:
    """done/total, rate and failures on a terminal; silent elsewhere (logs, pipes, schedulers)."""

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._start = time.monotonic()
        self._last = 0.0
        self._width = 0

    def __call__(self, tally: Tally) -> None:
        now = time.monotonic()
        if not self._shown or (now - self._last < EVERY_SECONDS and tally.done < tally.total):
            return
        self._last = now
        rate = tally.done / max(now - self._start, 1e-9)
        failed = f", {tally.failed} failed" if tally.failed else ""
        line = f"{self._label}: {tally.done}/{tally.total}, {rate:.1f}/s{failed}"
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)

    def close(self) -> None:
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0
