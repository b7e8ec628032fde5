"""An event loop for a caller that is none: in its thread or, where a loop runs there already, in one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from medgr2.infra.interrupts import waiting

R = TypeVar("R")


class Loop:
    """Moves only while `run` does."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._task: asyncio.Task[Any] | None = None
        self._thread = ThreadPoolExecutor(1, "http-engine") if _a_loop_runs_here() else None

    def run(self, begin: Callable[[], Coroutine[Any, Any, R]]) -> R:
        with waiting():
            return self._run(begin())

    def _run(self, step: Coroutine[Any, Any, R]) -> R:
        if self._thread is None:
            return self._complete(self._loop.create_task(step))
        running = self._thread.submit(self._step, step)
        try:
            return running.result()
        except BaseException:
            if not running.done():  # Ctrl-C while we waited: what runs there is ended before anything else is run
                self._loop.call_soon_threadsafe(self._cancel)
                wait([running])
            raise

    def _step(self, step: Coroutine[Any, Any, R]) -> R:
        self._task = self._loop.create_task(step)
        return self._complete(self._task)

    def _complete(self, task: asyncio.Task[R]) -> R:
        # Not the runner's own `run`: it asks for the signal handler each time, which costs a repr of all results.
        try:
            return self._loop.run_until_complete(task)
        except RuntimeError:
            if task.done() or self._loop.is_closed():
                raise
            # An interrupt may leave an order to stop behind, of a task that had ended just before it.
            return self._loop.run_until_complete(task)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

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
