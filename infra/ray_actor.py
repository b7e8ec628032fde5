"""The process at the other end of a pool: one worker, and a stream of what it finishes."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from medgr2.infra import notice
from medgr2.infra.settings import Settings
from medgr2.infra.worker import STOPPING, Trouble, Worker, build_worker, work_through
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import Medgr2Error

Said: TypeAlias = Outcome | Trouble | Medgr2Error | None
"""None ends a batch; an error ends the stage."""


class PoolWorker:
    """Worker code runs in one thread of its own, from its construction on, so that the stream is never held up:
    what finished while the last group was on its way is the next group."""

    def __init__(self, path: str, recipe: Recipe, settings: Settings, environ: Mapping[str, str]) -> None:
        # Before the worker's module, and whatever it imports, reads them.
        os.environ.update(environ)
        if threading.current_thread() is threading.main_thread():
            # Python hears signals in this thread only, and a training runs in another. Without one, Ray's way stays.
            notice.turn_signals()
        self._built: queue.SimpleQueue[Medgr2Error | None] = queue.SimpleQueue()
        self._batches: queue.SimpleQueue[Sequence[Cell]] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        threading.Thread(target=self._live, args=(path, recipe, settings), name="worker", daemon=True).start()

    def ready(self) -> Medgr2Error | None:
        """Waits for the worker to be built; the error if it cannot be."""
        return self._built.get()

    def pid(self) -> int:
        return os.getpid()

    def place(self) -> tuple[str, int]:
        """Where a signal finds it: the node, and the process there."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def work(self, cells: Sequence[Cell]) -> Iterator[list[Said]]:
        """Groups of what finished; the last entry of the last group is None."""
        self._batches.put(cells)
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

    def _live(self, path: str, recipe: Recipe, settings: Settings) -> None:
        try:
            worker: Worker = build_worker(path, recipe, settings)
        except Medgr2Error as e:
            self._built.put(_sendable(e))
            return
        self._built.put(None)
        while True:
            batch = self._batches.get()
            try:
                for said in work_through(worker, batch):
                    self._said.put(said)
            except STOPPING as e:
                self._said.put(_sendable(e))
            except BaseException:
                # Out of memory, or a worker that must not go on: for the driver this process is dead.
                os._exit(1)
            self._said.put(None)


def _sendable(error: Medgr2Error) -> Medgr2Error:
    """Its cause and its frames may hold what cannot be pickled, and what must not leave the process."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def worker_environment(cpus: float) -> dict[str, Any]:
    """What a worker process must know of the driver's environment."""
    names = {name: value for name, value in os.environ.items() if name.startswith("MEDGR2_")}
    return {**names, "OMP_NUM_THREADS": str(max(1, int(cpus)))}
