"""The door to a server: who may ask now, and when nobody may."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.http_limits import Breaker, Gauge
from medgr2.schemas.errors import NightStoppedError

STRANGER_SECONDS = 60.0
CLOCK_SECONDS = 0.01
"""A timer may fire that much before its time."""


class Door:
    """Lets requests to the server: never more than the gauge allows, none while everybody has to wait."""

    def __init__(self, settings: GeneratorSettings) -> None:
        self.gauge = Gauge(settings.in_flight)
        self.in_flight = 0
        self._breaker = Breaker(settings.attempts + 1)
        self._patience = settings.patience_seconds
        self._where = settings.url
        self._closed_until = 0.0
        self._known = False
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
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1
        self._call_next()

    def good(self) -> None:
        self._known, self._bad_since = True, None
        self._breaker.good()
        self.gauge.heard(busy=False)

    def bad(self, *, away: bool = False, told: bool = False) -> None:
        now = time.monotonic()
        self.gauge.heard(busy=True)
        pause = 0.0 if told else self._breaker.bad()
        if pause:
            self._closed_until = now + pause
            asyncio.get_running_loop().call_later(pause + CLOCK_SECONDS, self._call_next)
        if self._bad_since is None:
            self._bad_since = now
        # A server that was never seen is more likely a slip in the URL than one that will be back.
        patience = self._patience if self._known or not away else min(self._patience, STRANGER_SECONDS)
        if now - self._bad_since >= patience:
            raise NightStoppedError(
                f"the server has answered nothing for {patience:g} s: it is {'away' if away else 'busy'}",
                where=self._where,
                kept="every answer that came",
                next_command="medgr2 doctor  then the same command again; nothing is asked twice",
            )

    def _admits(self) -> bool:
        if self.in_flight >= self.gauge.limit:
            return False
        if not self._breaker.open:
            return True
        return self.in_flight == 0 and time.monotonic() >= self._closed_until

    def _call_next(self) -> None:
        if self._breaker.open and (early := self._closed_until - time.monotonic()) > 0:
            asyncio.get_running_loop().call_later(early + CLOCK_SECONDS, self._call_next)
            return
        room = self.gauge.limit - self.in_flight
        while self._outside and room > 0:
            waiting = self._outside.popleft()
            if not waiting.done():
                waiting.set_result(None)
                room -= 1
