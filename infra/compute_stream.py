"""Workers that wait for a server: one of them, in the driver's own process, fed cell by cell.

Such a worker is called with a feed: an iterable of `Cell | None`, where None means that there is none for now and
that it is worth asking again in a moment. It yields each outcome as it comes, in any order.

The limit counts cells, from when they are handed out until their outcome is durable. So a server that is to be kept
busy with n requests needs a limit above n: see `room_for`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from medgr2.infra.compute import Work
from medgr2.infra.purse import Purse
from medgr2.infra.settings import Settings
from medgr2.infra.worker import Worker, answers, build_worker
from medgr2.schemas.cells import Cell, Outcome

LOOK_AGAIN_SECONDS = 0.002


def room_for(in_flight: int) -> int:
    """The limit that keeps so many requests at a server: some cells more, whose outcomes are being written."""
    return in_flight + max(4, in_flight // 4)


class Durability(Protocol):
    """What a JournalWriter tells of itself."""

    @property
    def durable(self) -> int: ...
    def hurry(self) -> None: ...


class Feed:
    """Hands a cell out only while fewer than `in_flight` of those handed out have no durable outcome: so a kill at
    any moment costs no more than these. It may be drawn from in another thread than the outcomes are told in."""

    def __init__(self, cells: Sequence[Cell], purse: Purse, in_flight: int, journal: Durability) -> None:
        self._cells = cells
        self._purse = purse
        self._in_flight = in_flight
        self._journal = journal
        self._before = self._durable = journal.durable
        self._handed = 0
        self._drawing = threading.Lock()
        self.waiting: dict[str, Cell] = {}
        """Handed out, and not answered."""

    def __iter__(self) -> Iterator[Cell | None]:
        return self

    def __next__(self) -> Cell | None:
        with self._drawing:
            if self._handed == len(self._cells):
                raise StopIteration
            if self._full():
                self._durable = self._journal.durable
                if self._full():
                    self._journal.hurry()
                    return None
            if not self._purse.begin(1):
                if self._purse.spent_up:
                    raise StopIteration
                return None
            cell = self._cells[self._handed]
            self._handed += 1
            self.waiting[cell.key] = cell
            return cell

    def _full(self) -> bool:
        return self._handed - (self._durable - self._before) >= self._in_flight

    @property
    def handed(self) -> int:
        return self._handed

    @property
    def ended(self) -> bool:
        return self._handed == len(self._cells) or (not self.waiting and self._purse.spent_up)


class Streamed:
    durable = False

    def __init__(self, settings: Settings, in_flight: int, journal: Durability) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._journal = journal

    def run(self, work: Work, cells: Sequence[Cell], tries: Mapping[str, int], purse: Purse) -> Iterator[Outcome]:
        worker = build_worker(work.worker, work.recipe, self._settings)
        feed = Feed(cells, purse, self._in_flight, self._journal)
        while not feed.ended:
            handed = feed.handed
            said_all = answers(worker, feed, feed.waiting)
            with contextlib.closing(said_all):  # type: ignore[type-var]
                for said in said_all:
                    if isinstance(said, Outcome):
                        yield _counted(said, tries)
            if feed.handed == handed:
                _draw_one(feed)  # it ended before it began anything: no cell may wait for ever
            for cell in list(feed.waiting.values()):
                yield _counted(_alone(worker, cell), tries)
                del feed.waiting[cell.key]


def _alone(worker: Worker, cell: Cell) -> Outcome:
    """A cell that was under way when its worker failed gets a try of its own."""
    for said in answers(worker, [cell], {cell.key: cell}):
        if isinstance(said, Outcome):
            return said
        trouble = said
    return Outcome.failed(cell, trouble.reason, trouble.detail)


def _counted(outcome: Outcome, tries: Mapping[str, int]) -> Outcome:
    attempt = tries.get(outcome.key, 0) + 1
    return outcome if attempt == outcome.attempt else replace(outcome, attempt=attempt)


def _draw_one(feed: Feed) -> None:
    while next(feed, True) is None:
        time.sleep(LOOK_AGAIN_SECONDS)
