"""A pool of Ray actors that outlives its members: who dies or hangs is replaced, and his cells are tried again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from medgr2.infra.compute import Resources, Work
from medgr2.infra.dispatch import Dispatch
from medgr2.infra.interpreters import check_worker_python
from medgr2.infra.purse import Purse
from medgr2.infra.ray_actor import PoolWorker, Said, driver_environment
from medgr2.infra.ray_local import cores, keep_stdout, start_ray
from medgr2.infra.ray_resting import RESTING, Kind, end, threads
from medgr2.infra.settings import Settings
from medgr2.schemas.cells import Cell, Outcome
from medgr2.schemas.errors import Medgr2Error, NightStoppedError, SettingsError

log = logging.getLogger(__name__)

DEPTH = 2
"""Batches at a worker: while one is worked on, the next is there already."""
TICK_SECONDS = 1.0
PLACE_SECONDS = 10.0
START_FAILURES = 3
"""So many processes in a row that die before their worker stands mean that none ever will."""


@dataclass(slots=True)
class _Running:
    batch: list[Cell]
    stream: Any
    waiting: dict[str, Cell]


@dataclass(slots=True)
class _Lane:
    """One actor. It is ready once its worker stands; its first batch is the one being worked on."""

    actor: Any
    starting: Any
    due: float
    running: deque[_Running] = field(default_factory=deque)
    place: tuple[str, int] | None = None
    """Node and process, where the work wants notice before its end."""

    def is_idle(self) -> bool:
        """Also who is ready, and has not been asked."""
        if self.starting is None:
            return not self.running
        ready, _ = ray.wait([self.starting], timeout=0)
        with contextlib.suppress(ray.exceptions.RayError):
            return bool(ready) and ray.get(self.starting) is None
        return False

    @property
    def awaited(self) -> Any:
        return self.starting if self.starting is not None else self.running[0].stream


class RayPool:
    durable = False

    def __init__(self, settings: Settings, size: int, *, reserve: bool) -> None:
        """`reserve` asks Ray for the CPUs (a shared cluster); our own Ray is sized by us, and its processes stay for
        the stages to come. GPUs are always asked."""
        self._settings = settings
        self._size = size
        self._reserve = reserve

    @classmethod
    def local(cls, settings: Settings) -> RayPool:
        start_ray()
        return cls(settings, settings.compute.workers, reserve=False)

    @classmethod
    def cluster(cls, settings: Settings) -> RayPool:
        """The cluster that this process, a job, is part of."""
        keep_stdout()
        ray.init(address="auto", log_to_driver=False, configure_logging=False)
        return cls(settings, settings.compute.workers, reserve=True)

    def size_for(self, resources: Resources) -> int:
        there = ray.cluster_resources()
        cpus = there.get("CPU", 1.0) if self._reserve else float(cores())
        size = self._size or max(1, int(cpus / resources.cpus))
        if resources.gpus:
            fits = int(there.get("GPU", 0.0) / resources.gpus)
            if not fits:
                raise SettingsError(
                    f"the stage needs {resources.gpus:g} GPU a worker, and Ray sees {there.get('GPU', 0.0):g}",
                    where="compute",
                    next_command="run on a machine with a GPU, or set the stage's gpus to 0",
                )
            size = min(size, fits)
        return size

    def run(self, work: Work, cells: Sequence[Cell], tries: Mapping[str, int], purse: Purse) -> Iterator[Outcome]:
        if work.resources.python and not self._reserve:
            check_worker_python(Path(work.resources.python))
        dispatch = Dispatch(cells, tries, work.batch_size, work.attempts, purse)
        with contextlib.closing(
            _Run(self._settings, work, dispatch, self.size_for(work.resources), self._reserve)
        ) as run:
            yield from run.outcomes()


class _Run:
    def __init__(self, settings: Settings, work: Work, dispatch: Dispatch, size: int, reserve: bool) -> None:
        self._settings, self._work, self._dispatch, self._size = settings, work, dispatch, size
        python = work.resources.python
        self._actor_class = ray.remote(
            num_cpus=work.resources.cpus if reserve else 0,
            num_gpus=work.resources.gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"py_executable": python} if python else None,
        )(PoolWorker)
        # A training begins in a process that nobody used, and whoever ends it may do so at once.
        self._kind = None if reserve or work.saves else Kind.of(work.resources)
        self._lanes: list[_Lane] = []
        self._failed_starts = 0

    def close(self) -> None:
        if not ray.is_initialized():  # whatever is asked of it now would start another one
            return
        noticed = [lane for lane in self._lanes if lane.place is not None and lane.running]
        for lane in noticed:
            _give_notice(*lane.place)  # type: ignore[misc]
        until = time.monotonic() + self._settings.training.grace_seconds
        for lane in noticed:
            with contextlib.suppress(ray.exceptions.RayError, StopIteration):
                said = ray.get(next(lane.running[0].stream), timeout=max(0.1, until - time.monotonic()))
                for error in (one for one in said if isinstance(one, Medgr2Error)):
                    log.warning("%s; kept: %s", error.what, error.kept)
        idle = [lane for lane in self._lanes if self._kind is not None and lane.is_idle()]
        for lane in self._lanes:
            if lane not in idle:
                end(lane.actor)
        if self._kind is not None:
            RESTING.keep(self._kind, [lane.actor for lane in idle])

    def outcomes(self) -> Iterator[Outcome]:
        while True:
            self._fill()
            busy = [lane for lane in self._lanes if lane.running or lane.starting is not None]
            if not any(lane.running for lane in busy) and not len(self._dispatch):
                return
            by_awaited = {id(lane.awaited): lane for lane in busy}
            now = time.monotonic()
            patience = max(0.0, min(TICK_SECONDS, min(lane.due for lane in busy) - now))
            ready, _ = ray.wait([lane.awaited for lane in busy], num_returns=1, timeout=patience)
            for one in ready:
                lane = by_awaited[id(one)]
                yield from self._started(lane) if lane.starting is not None else self._heard(lane)
            if not ready:
                for lane in [lane for lane in busy if lane.due <= time.monotonic()]:
                    yield from self._overdue(lane)

    def _fill(self) -> None:
        """New actors while there is work for them, then batches; the last ones are spread, not queued."""
        while len(self._lanes) < self._size and len(self._dispatch) > sum(
            lane.starting is not None for lane in self._lanes
        ):
            self._lanes.append(self._new_lane())
        for depth in range(1, DEPTH + 1):
            for lane in self._lanes:
                if depth > 1 and len(self._dispatch) <= 2 * len(self._lanes):
                    return
                if lane.starting is None and len(lane.running) < depth and (batch := self._dispatch.next_batch()):
                    stream = lane.actor.work.options(num_returns="streaming").remote(batch)
                    lane.running.append(_Running(batch, stream, {cell.key: cell for cell in batch}))
                    if len(lane.running) == 1:
                        lane.due = self._due()

    def _new_lane(self) -> _Lane:
        work = self._work
        rested = RESTING.take(self._kind) if self._kind is not None else None
        actor = rested or self._actor_class.remote(threads(work.resources))
        starting = actor.begin.remote(work.worker, work.recipe, self._settings, driver_environment())
        return _Lane(actor, starting, self._due())

    def _due(self) -> float:
        return time.monotonic() + self._work.deadline_seconds

    def _started(self, lane: _Lane) -> Iterator[Outcome]:
        try:
            error = ray.get(lane.starting)
        except ray.exceptions.RayError as e:
            self._give_up(lane)
            self._failed_starts += 1
            if self._failed_starts >= START_FAILURES and not self._shrunk():
                raise self._cannot_start(
                    f"{self._failed_starts} processes in a row died ({type(e).__name__})"
                ) from None
        else:
            if error is not None:
                raise error
            lane.starting = None
            self._failed_starts = 0
            if self._work.saves:
                with contextlib.suppress(ray.exceptions.RayError):
                    lane.place = ray.get(lane.actor.place.remote(), timeout=PLACE_SECONDS)
        return iter(())

    def _heard(self, lane: _Lane) -> Iterator[Outcome]:
        running = lane.running[0]
        try:
            # What was said on a node that is gone by now may never arrive.
            group: list[Said] = ray.get(next(running.stream), timeout=max(TICK_SECONDS, lane.due - time.monotonic()))
        except (ray.exceptions.RayError, StopIteration) as e:
            yield from self._lost(lane, "worker_died", type(e).__name__)
            return
        for said in group:
            if isinstance(said, Outcome):
                del running.waiting[said.key]
                yield self._dispatch.finished(said)
            elif isinstance(said, Medgr2Error):
                raise said
            elif said is not None:
                yield from self._dispatch.raised(list(running.waiting.values()), said, alone=len(running.batch) == 1)
            else:
                lane.running.popleft()
                lane.due = self._due()

    def _overdue(self, lane: _Lane) -> Iterator[Outcome]:
        if lane.starting is not None:
            self._give_up(lane)
            if not self._shrunk():
                raise self._cannot_start(f"it was not ready within {self._work.deadline_seconds:g} s")
            return
        yield from self._lost(lane, "deadline", f"no answer within {self._work.deadline_seconds:g} s")

    def _shrunk(self) -> bool:
        """Whether others go on without the one that did not start: its node may be gone, or its room taken."""
        standing = sum(lane.starting is None for lane in self._lanes)
        self._size = min(self._size, max(1, standing))
        return standing > 0

    def _give_up(self, lane: _Lane) -> None:
        self._lanes.remove(lane)
        end(lane.actor)

    def _lost(self, lane: _Lane, reason: str, detail: str) -> Iterator[Outcome]:
        self._give_up(lane)
        broken, *untouched = lane.running
        for running in reversed(untouched):
            self._dispatch.put_back(running.batch)
        yield from self._dispatch.lost(list(broken.waiting.values()), reason, detail, alone=len(broken.batch) == 1)

    def _cannot_start(self, why: str) -> NightStoppedError:
        return NightStoppedError(
            f"the worker of stage {self._work.recipe.stage} does not start: {why}",
            where=self._work.worker,
            kept="every cell that was finished before",
            next_command="medgr2 doctor; look for too little memory, then run the same command again",
        )


def _give_notice(node: str, pid: int) -> None:
    """Elsewhere through a process of Ray there: a signal does not leave its machine."""
    with contextlib.suppress(ray.exceptions.RayError, OSError, ValueError):
        if node == ray.get_runtime_context().get_node_id():
            os.kill(pid, signal.SIGTERM)
            return
        there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        ray.remote(num_cpus=0, scheduling_strategy=there)(os.kill).remote(pid, signal.SIGTERM)
