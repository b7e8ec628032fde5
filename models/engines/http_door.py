"""The door to a server: who may ask now, and when nobody may."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from medgr2.infra.settings import ServerSettings
from medgr2.models.engines.http_limits import Breaker, Gauge
from medgr2.schemas.errors import NightStoppedError

STRANGER_SECONDS = 60.0
TOLD_TOGETHER = 4
"""So many requests in a row that are told when to come again: then it is meant for everybody."""
CLOCK_SECONDS = 0.01
"""A timer may fire that much before its time."""


class Door:
    """Lets requests to the server: never more than the gauge allows, none while everybody has to wait."""

    def __init__(self, settings: ServerSettings) -> None:
        self.gauge = Gauge(settings.in_flight)
        self.in_flight = 0
        self.known = False
        """The server has said something, whatever it was."""
        self._breaker = Breaker(settings.attempts + 1)
        self._patience = settings.patience_seconds
        self._where = settings.url
        self.answered = 0
        """Requests that were answered well."""
        self._closed_until = 0.0
        self._told = 0
        self._away = False
        self._bad_since: float | None = None
        self._outside: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        while not self._admits():
            waiting = asyncio.get_running_loop().create_future()
            self._outside.append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                self._call_next()
                raise
        if self._breaker.open:
            self._lose_patience()
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1
        self._call_next()

    def good(self) -> None:
        self.known, self._away, self._bad_since = True, False, None
        self._told, self._closed_until = 0, 0.0
        self.answered += 1
        self._breaker.good()
        self.gauge.heard(busy=False)

    def busy(self, wait: float, *, told: bool) -> None:
        """The server has no time; `told`: it is well, and says so itself."""
        self._met(away=False)
        self.gauge.heard(busy=True)
        if told:
            self._told += 1
            if self._told >= TOLD_TOGETHER and wait:
                self._close_for(wait)
        else:
            self._strike()
        self._lose_patience()

    def away(self) -> None:
        """There is nobody to connect to; how many may ask at once has nothing to do with it."""
        self._met(away=True)
        self._strike()
        self._lose_patience()

    def broke(self, *, crowded: bool) -> None:
        """Perhaps one request's fault, so that nobody loses patience before many of them have ended like that."""
        self._met(away=False)
        if crowded:
            self.gauge.heard(busy=True)
        self._strike()

    def _met(self, *, away: bool) -> None:
        self._away = away
        self.known = self.known or not away
        if self._bad_since is None:
            self._bad_since = time.monotonic()

    def _strike(self) -> None:
        if self._breaker.open and time.monotonic() < self._closed_until:
            return  # under way when the door was closed: says nothing that is not known
        if pause := self._breaker.bad():
            self._close_for(pause)

    def _close_for(self, seconds: float) -> None:
        self._closed_until = max(self._closed_until, time.monotonic() + seconds)
        asyncio.get_running_loop().call_later(seconds + CLOCK_SECONDS, self._call_next)

    def _lose_patience(self) -> None:
        # A server that was never seen is more likely a slip in the URL than one that will be back.
        patience = self._patience if self.known else min(self._patience, STRANGER_SECONDS)
        if self._bad_since is not None and time.monotonic() - self._bad_since >= patience:
            raise NightStoppedError(
                f"the server has answered nothing for {patience:g} s: it is {'away' if self._away else 'busy'}",
                where=self._where,
                kept="every answer that came",
                next_command="medgr2 doctor  then the same command again; nothing is asked twice",
            )

    def _admits(self) -> bool:
        if self.in_flight >= self.gauge.limit or time.monotonic() < self._closed_until:
            return False
        return self.in_flight == 0 or not self._breaker.open

    def _call_next(self) -> None:
        if not self._outside:
            return
        if (early := self._closed_until - time.monotonic()) > 0:
            asyncio.get_running_loop().call_later(early + CLOCK_SECONDS, self._call_next)
            return
        room = self.gauge.limit - self.in_flight
        while self._outside and room > 0:
            waiting = self._outside.popleft()
            if not waiting.done():
                waiting.set_result(None)
                room -= 1
