"""The process at the other end of a pool: one worker, and a stream of what it finishes."""

from __future__ import annotations

import gc
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from medgr2.infra import notice
from medgr2.infra.memory import give_back
from medgr2.infra.settings import Settings
from medgr2.infra.worker import STOPPING, Trouble, Worker, build_worker, work_through
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import Medgr2Error

Said: TypeAlias = Outcome | Trouble | Medgr2Error | None
"""None ends a batch; an error ends the stage."""


class PoolWorker:
    """Worker code runs in one thread of its own, from its construction on, so that the stream is never held up:
    what finished while the last group was on its way is the next group. One stage follows another."""

    def __init__(self, threads: int) -> None:
        # Before a worker's module, and whatever it imports, reads it.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if threading.current_thread() is threading.main_thread():
            # Python hears signals in this thread only, and a training runs in another. Without one, Ray's way stays.
            notice.turn_signals()
        self._worker: Worker = _nobody
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._built: queue.SimpleQueue[Medgr2Error | None] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._rested: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._live, name="worker", daemon=True).start()

    def begin(self, path: str, recipe: Recipe, settings: Settings, environ: Mapping[str, str]) -> Medgr2Error | None:
        """A stage: waits for its worker to be built; the error if it cannot be."""
        _forget_settings()
        os.environ.update(environ)
        self._orders.put(lambda: self._build(path, recipe, settings))
        return self._built.get()

    def rest(self) -> int:
        """The stage has ended: lets go of its worker and its secrets. Says how many bytes the process still takes."""
        self._orders.put(self._let_go)
        return self._rested.get()

    def place(self) -> tuple[str, int]:
        """Where a signal finds it: the node, and the process there."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def work(self, cells: Sequence[Cell]) -> Iterator[list[Said]]:
        """Groups of what finished; the last entry of the last group is None."""
        self._orders.put(lambda: self._work_through(cells))
        ended = False
        while not ended:
            group = [self._said.get()]
            while group[-1] is not None:
                try:
                    group.append(self._said.get_nowait())
                except queue.Empty:
                    break
            ended = group[-1] is None
            yield group

    def _live(self) -> None:
        while True:
            order = self._orders.get()
            try:
                order()
            except BaseException:
                # Out of memory, or a worker that must not go on: for the driver this process is dead.
                os._exit(1)

    def _build(self, path: str, recipe: Recipe, settings: Settings) -> None:
        try:
            self._worker = build_worker(path, recipe, settings)
        except Medgr2Error as e:
            self._built.put(_sendable(e))
        else:
            self._built.put(None)

    def _work_through(self, batch: Sequence[Cell]) -> None:
        try:
            for said in work_through(self._worker, batch):
                self._said.put(said)
        except STOPPING as e:
            self._said.put(_sendable(e))
        self._said.put(None)

    def _let_go(self) -> None:
        self._worker = _nobody
        _forget_settings()
        gc.collect()
        give_back()
        self._rested.put(_resident_bytes())


def _nobody(_: Sequence[Cell]) -> Iterator[Outcome]:
    raise RuntimeError("no stage has begun")


def _sendable(error: Medgr2Error) -> Medgr2Error:
    """Its cause and its frames may hold what cannot be pickled, and what must not leave the process."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def driver_environment() -> dict[str, str]:
    """What a worker process must know of the driver's environment."""
    return {name: value for name, value in os.environ.items() if name.startswith("MEDGR2_")}


def _forget_settings() -> None:
    """Those of the stage before, or those that the driver had when it started Ray."""
    for name in driver_environment():
        del os.environ[name]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
