"""Stage workers that stand still where a test says so: a kill hits the middle, however late it comes."""

from __future__ import annotations

import sys
import time

from stage_workers import Counting

from medgr2.schemas.cells import Cell, Outcome

LONGEST_SECONDS = 600


class Holding(Counting):
    """As long as the file `hold` lies beside the log, cells from the number in it on are begun and do not end."""

    def _one(self, cell: Cell) -> Outcome:
        outcome, end = super()._one(cell), time.monotonic() + LONGEST_SECONDS
        while cell.inputs["n"] >= self._held_from() and time.monotonic() < end:
            time.sleep(0.01)
        return outcome

    def _held_from(self) -> int:
        try:
            return int(self._log.with_name("hold").read_text() or 0)
        except FileNotFoundError:
            return sys.maxsize
