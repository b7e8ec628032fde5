"""An event loop for a caller that is none: in its thread or, where a loop runs there already, in one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from medgr2.infra import interrupts

R = TypeVar("R")


class Loop:
    """Moves only while `run` or `finish` do."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._task: asyncio.Task[Any] | None = None
        self._thread = ThreadPoolExecutor(1, "http-engine") if _a_loop_runs_here() else None

    def run(self, begin: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """A signal that is put off cancels the step, and is raised. It is never raised within the loop, where it could
        get lost, or take a wake-up of the loop with it."""
        interrupts.heed()
        try:
            with interrupts.woken(self._cancel):
                return self._move(begin, heeding=True)
        finally:
            interrupts.heed()

    def finish(self, begin: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """To its end, whatever signals say."""
        return self._move(begin, heeding=False)

    def _move(self, begin: Callable[[], Coroutine[Any, Any, R]], *, heeding: bool) -> R:
        if self._thread is None:
            return self._step(begin, heeding)
        running = self._thread.submit(self._step, begin, heeding)
        try:
            return running.result()
        except BaseException:
            if not running.done():  # Ctrl-C while we waited: what runs there is ended before anything else is run
                self._cancel()
                wait([running])
            raise

    def _step(self, begin: Callable[[], Coroutine[Any, Any, R]], heeding: bool) -> R:
        # Not the runner's own `run`: it asks for the signal handler each time, which costs a repr of all results.
        self._task = task = self._loop.create_task(begin())
        if heeding and interrupts.pending():  # it came just before there was a task to cancel
            task.cancel()
        try:
            return self._loop.run_until_complete(task)
        except RuntimeError:
            if task.done() or self._loop.is_closed():
                raise
            # A KeyboardInterrupt of somebody else's may leave an order to stop behind, of a step that had just ended.
            return self._loop.run_until_complete(task)

    def _cancel(self) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)  # of a step that has ended this changes nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if self._thread is None:
            self._runner.close()
        else:
            self._thread.submit(self._runner.close).result()
            self._thread.shutdown()


def _a_loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
