"""Models behind an OpenAI-compatible server: vLLM, `transformers serve`, a hospital's gateway, a vendor's endpoint.

As many conversations are open as may be in flight; whoever ends makes room for the next at once. All of it is one
event loop, driven from the generator that `hold` is, so nothing happens behind the caller's back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Generic

from medgr2.infra.interrupts import put_off
from medgr2.infra.settings import ServerSettings
from medgr2.infra.worker import STOPPING, trouble_of
from medgr2.models.engines.http_call import Caller, RowTroubleError
from medgr2.models.engines.http_loop import Loop
from medgr2.models.engines.seam import Conversation, Held, T
from medgr2.schemas.usage import NOTHING_USED

LOOK_AGAIN_SECONDS = 0.002


class HttpEngine:
    repeatable = False

    def __init__(self, settings: ServerSettings, model: str, *, slow_pictures: bool = False) -> None:
        """`slow_pictures`: they come from far away, so that opening one may not hold the others up."""
        self._settings = settings
        self._model = model
        self._slow_pictures = slow_pictures

    def hold(self, conversations: Iterable[tuple[str, Conversation[T]] | None]) -> Iterator[Held[T]]:
        with put_off(), Loop() as loop:
            table = loop.run(lambda: _open_table(self._settings, self._model, conversations, self._slow_pictures))
            try:
                try:
                    while loop.run(table.some):
                        yield from table.told()
                finally:
                    loop.finish(table.close)
            except KeyboardInterrupt:
                yield from table.told()  # it came back, and was paid for
                raise


class _Table(Generic[T]):
    """The conversations that are going on."""

    def __init__(
        self,
        settings: ServerSettings,
        model: str,
        conversations: Iterable[tuple[str, Conversation[T]] | None],
        slow_pictures: bool,
    ) -> None:
        self._seats = settings.in_flight
        self._waiting = iter(conversations)
        self._slow_pictures = slow_pictures
        self._more = True
        self._talking: set[asyncio.Task[None]] = set()
        self._ended: deque[Held[T]] = deque()
        self._stop: BaseException | None = None
        self._news = asyncio.Event()
        self._caller = Caller(settings, model, on_rest=self._news.set)

    def told(self) -> Iterator[Held[T]]:
        while self._ended:
            yield self._ended.popleft()

    async def some(self) -> bool:
        """Waits until one or more have ended; False when there are none left."""
        while True:
            if self._stop is None:
                self._seat()
            if self._ended:
                return True
            if self._stop is not None:
                raise self._stop
            if not self._talking and not self._more:
                return False
            self._news.clear()
            if self._room():
                asyncio.get_running_loop().call_later(LOOK_AGAIN_SECONDS, self._news.set)
            await self._news.wait()

    async def close(self) -> None:
        self._more = False
        for task in self._talking:
            task.cancel()
        await asyncio.gather(*self._talking, return_exceptions=True)
        await self._caller.close()

    def _room(self) -> bool:
        """Whoever was told to come again later keeps no seat, or a sprinkle of those would empty the table."""
        away = min(self._caller.resting, self._seats)
        return self._more and len(self._talking) - away < self._seats

    def _seat(self) -> None:
        while self._room():
            try:
                named = next(self._waiting)
            except StopIteration:
                self._more = False
                return
            if named is None:
                return
            task = asyncio.get_running_loop().create_task(self._talk(*named))
            self._talking.add(task)
            task.add_done_callback(self._leaves)

    def _leaves(self, task: asyncio.Task[None]) -> None:
        self._talking.discard(task)
        if not task.cancelled():
            task.exception()  # KeyboardInterrupt, which the loop has raised already
        self._news.set()

    async def _talk(self, name: str, conversation: Conversation[T]) -> None:
        usage = NOTHING_USED
        try:
            if self._slow_pictures:
                request = await asyncio.to_thread(_begin, conversation)
            else:
                request = _begin(conversation)
            while not isinstance(request, _Told):
                completion, spent = await self._caller.ask(request)
                usage += spent
                try:
                    request = conversation.send(completion)
                except StopIteration as told:
                    request = _Told(told.value)
            self._ended.append(Held(name, result=request.value, usage=usage))
        except RowTroubleError as row:
            self._ended.append(Held(name, trouble=row.trouble, usage=usage + row.usage))
        except (MemoryError, *STOPPING) as e:
            self._stop = self._stop or e
        except Exception as e:
            self._ended.append(Held(name, trouble=trouble_of(e), usage=usage))


class _Told(Generic[T]):
    """A conversation's result; StopIteration cannot leave a coroutine."""

    def __init__(self, value: T) -> None:
        self.value = value


def _begin(conversation: Conversation[T]) -> Any:
    try:
        return next(conversation)
    except StopIteration as told:
        return _Told(told.value)


async def _open_table(
    settings: ServerSettings,
    model: str,
    conversations: Iterable[tuple[str, Conversation[T]] | None],
    slow_pictures: bool,
) -> _Table[T]:
    # Its session and its event belong to the loop that runs now.
    return _Table(settings, model, conversations, slow_pictures)
