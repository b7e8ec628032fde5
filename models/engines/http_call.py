"""One request to the server, tried until it is answered, refused, or has had its tries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from medgr2.infra.settings import GeneratorSettings, ServerSettings
from medgr2.infra.worker import Trouble
from medgr2.models.engines.http_body import Dialect, error_code, read_reply, usage_of
from medgr2.models.engines.http_door import Door
from medgr2.models.engines.http_limits import backoff
from medgr2.models.engines.http_refusals import Refusals
from medgr2.models.engines.http_safety import checked_url
from medgr2.models.engines.http_session import Parcel, open_session
from medgr2.models.engines.seam import Completion, Request
from medgr2.schemas.errors import SettingsError
from medgr2.schemas.usage import NOTHING_USED, Usage

REFUSED = (400, 413, 415, 422)
BUSY = (429, 503)
CROWDED = ("timeout", "http_502", "http_504")
"""What a server that is asked too much does too, beside telling."""
LONGEST_RETRY_AFTER = 600.0
SENT_AWAY = 12
"""Times that one request is told to come again before it is to blame itself, if its square of others were answered."""
LONGEST_REPLY = 8 << 20


class RowTroubleError(Exception):
    """This request will not be answered; others may."""

    def __init__(self, reason: str, detail: str = "", usage: Usage = NOTHING_USED) -> None:
        super().__init__(reason)
        self.trouble = Trouble(reason, detail)
        self.usage = usage
        """Of the replies that came to nothing."""


class _AgainError(Exception):
    """Ask again at once: what the server did not understand is left out now."""


class _BusyError(Exception):
    """The server's fault: costs the request no try."""

    def __init__(self, reason: str, wait: float, *, told: bool) -> None:
        """`told`: the server is well, and says when to come again."""
        super().__init__()
        self.reason, self.wait, self.told = reason, wait, told


class _AwayError(Exception):
    """There was nobody to connect to: costs the request no try."""


class _BrokenError(Exception):
    """Perhaps the request's fault: costs it a try."""

    def __init__(self, reason: str, detail: str, usage: Usage = NOTHING_USED) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.usage = reason, detail, usage


class _RefusedError(Exception):
    """Perhaps the settings' fault, perhaps the request's."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class Caller:
    """One session with one server."""

    def __init__(self, settings: ServerSettings, model: str, on_rest: Callable[[], None]) -> None:
        self._settings = settings
        self._url = checked_url(settings)
        formless = isinstance(settings, GeneratorSettings) and settings.structured == "never"
        self._dialect = Dialect(model, {"response_format"} if formless else set(), set())
        self._door = Door(settings)
        self._session = open_session(settings)
        self._refusals = Refusals(settings, model, self._door, self._session)
        self._on_rest = on_rest
        self.resting = 0
        """Requests that wait for their next try, and not for the server."""

    async def close(self) -> None:
        await self._session.close()

    async def ask(self, request: Request) -> tuple[Completion, Usage]:
        tries = 0
        waits = 0
        free_reset = True
        lost = NOTHING_USED
        others = self._door.answered
        began = time.perf_counter()
        while True:
            await self._door.enter()
            try:
                completion, usage = await self._once(request)
            except _AgainError:
                wait = 0.0
            except _BusyError as busy:
                self._door.busy(busy.wait, told=busy.told)
                wait = max(busy.wait, backoff(waits, request.seeds[0]))
                waits += 1
                if waits >= SENT_AWAY and self._door.answered - others >= SENT_AWAY * SENT_AWAY:
                    # Minutes of it, while others are served: not the server's load but this request.
                    away = f"sent away {waits} times while others were served"
                    raise RowTroubleError(busy.reason, away, lost) from None
            except _AwayError:
                self._door.away()
                wait = backoff(waits, request.seeds[0])
                waits += 1
            except _RefusedError as refused:
                await self._refusals.met(refused.status, request)
                self._door.broke(crowded=False)
                tries += 1
                if tries >= self._settings.attempts:
                    raise RowTroubleError(f"http_{refused.status}", f"refused alone, {tries} tries", lost) from None
                wait = backoff(tries, request.seeds[0])
            except RowTroubleError as row:
                row.usage += lost
                raise
            except _BrokenError as broken:
                lost += broken.usage
                if broken.reason == "reset" and free_reset:
                    # Most often a connection that the server had closed already: nothing was asked on it.
                    free_reset, wait = False, 0.0
                    continue
                self._door.broke(crowded=broken.reason in CROWDED)
                tries += 1
                if tries >= self._settings.attempts:
                    raise RowTroubleError(broken.reason, f"{broken.detail}, {tries} tries", lost) from None
                wait = backoff(tries, request.seeds[0])
            else:
                self._door.good()
                return completion, usage + lost + Usage(seconds=time.perf_counter() - began)
            finally:
                self._door.leave()
            if wait:
                self.resting += 1
                self._on_rest()
                try:
                    await asyncio.sleep(wait)
                finally:
                    self.resting -= 1

    async def _once(self, request: Request) -> tuple[Completion, Usage]:
        left_out = len(self._dialect.without)
        status, headers, data = await self._post(Parcel(self._dialect.body(request)))

        def misunderstood() -> bool:
            """Or it was, and another that was under way beside it was told first."""
            return self._dialect.give_up(data, request) or len(self._dialect.without) > left_out

        if status == 200:
            found = read_reply(data, self._settings)
            if found is None:
                if misunderstood():
                    raise _AgainError
                usage = usage_of(data, self._settings)
                raise _BrokenError("broken_reply", "status 200, but no completion in it", usage)
            self._dialect.took(request)
            return found
        if status in BUSY:
            after = headers.get("Retry-After", "")
            raise _BusyError(f"http_{status}", _retry_after(after), told=status == 429 or bool(after))
        if status in REFUSED:
            if misunderstood():
                raise _AgainError
            raise RowTroubleError(f"http_{status}", error_code(data))
        if status in (401, 403, 404) or status < 400:
            raise _RefusedError(status)
        if misunderstood():
            raise _AgainError
        raise _BrokenError(f"http_{status}", error_code(data) or "the server failed")

    async def _post(self, parcel: Parcel) -> tuple[int, Any, bytes]:
        came = NOTHING_USED
        try:
            async with asyncio.timeout(self._settings.first_byte_seconds):
                reply = await self._session.post(
                    f"{self._url}/chat/completions",
                    data=parcel,
                    allow_redirects=False,
                )
            if reply.status == 200:
                came = Usage(1)
            async with reply:
                return reply.status, reply.headers, await _read(reply)
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorDNSError) as e:
            if self._door.known:  # it was there before: the network's fault, not the settings'
                raise _AwayError from None
            raise SettingsError(
                f"the server cannot be reached: {type(e).__name__}",
                where=self._url,
                kept="every answer that came",
                next_command=f"check the name in {self._settings.variable('URL')} and the server's certificate",
            ) from None
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError):
            raise _AwayError from None
        except TimeoutError:
            raise _BrokenError("timeout", "no whole reply in time", came) from None
        except (aiohttp.ClientPayloadError, aiohttp.http.HttpProcessingError, aiohttp.ClientResponseError) as e:
            raise _BrokenError("broken_reply", type(e).__name__, came) from None
        except (aiohttp.ClientError, OSError) as e:
            raise _BrokenError("reset", type(e).__name__) from None


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    """The body, which may not be without end, packed or not."""
    length = reply.content_length
    if length is not None and length <= LONGEST_REPLY and "Content-Encoding" not in reply.headers:
        return await reply.read()
    data = bytearray()
    async for part in reply.content.iter_chunked(1 << 16):
        data += part
        if len(data) > LONGEST_REPLY:
            reply.close()
            raise _BrokenError("broken_reply", f"more than {LONGEST_REPLY >> 20} MB", Usage(int(reply.status == 200)))
    return bytes(data)


def _retry_after(text: str) -> float:
    """Seconds, from seconds or from a date; 0 when it is neither."""
    try:
        wait = float(text)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(LONGEST_RETRY_AFTER, max(0.0, wait)) if wait == wait else 0.0
