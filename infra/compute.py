"""The compute seam: where a stage's cells are worked on. Inline, an actor pool in a local Ray, or a Ray cluster's job.

A worker is a class named by import path, built as Worker(recipe, settings) once per process, called with a batch:
`__call__(cells: Sequence[Cell]) -> Iterable[Outcome]`, one outcome per cell, in any order, each as it finishes.
What it raises is its cells' failure, except errors of the settings, the store or a missing extra: those stop the stage.
For workers that wait for a server, see compute_stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from medgr2.infra.dispatch import Dispatch
from medgr2.infra.purse import Purse
from medgr2.infra.settings import Settings
from medgr2.infra.worker import build_worker, work_through
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import MissingExtraError


class Resources(BaseModel):
    """What one worker process needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)
    python: str = Field(default="", description="Interpreter of the environment it lives in; empty means ours.")


class Work(BaseModel):
    """What is to be done with each cell, by whom, and how patiently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    worker: str = Field(pattern=r"^[\w.]+:\w+$", description="Import path: medgr2.tasks.drafting:GenerateWorker")
    batch_size: int = Field(default=32, ge=1)
    resources: Resources = Resources()
    attempts: int = Field(default=3, ge=1)
    deadline_seconds: float = Field(default=900, gt=0)
    saves: bool = Field(default=False, description="The worker, given notice and a grace, saves what it has begun.")


class Compute(Protocol):
    durable: bool
    """True where outcomes are in the journal already when they are yielded (they come from there)."""

    def run(self, work: Work, cells: Sequence[Cell], tries: Mapping[str, int], purse: Purse) -> Iterator[Outcome]:
        """One outcome per cell, each as soon as it is known. `tries` says how often a cell was tried before. No cell
        begins that the purse does not let begin: what it never lets has no outcome, and is the last of the cells.
        Closing the iterator ends the work."""
        ...


class Inline:
    """In this process: for tests, debuggers and machines without Ray. Nothing here can outlive a worker that takes
    the process along, or interrupt one that hangs."""

    durable = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, work: Work, cells: Sequence[Cell], tries: Mapping[str, int], purse: Purse) -> Iterator[Outcome]:
        dispatch = Dispatch(cells, tries, work.batch_size, work.attempts, purse)
        worker = build_worker(work.worker, work.recipe, self._settings)
        while batch := dispatch.next_batch():
            waiting = {cell.key: cell for cell in batch}
            for said in work_through(worker, batch):
                if isinstance(said, Outcome):
                    del waiting[said.key]
                    yield dispatch.finished(said)
                else:
                    yield from dispatch.raised(list(waiting.values()), said, alone=len(batch) == 1)


def open_compute(settings: Settings) -> Compute:
    """The one that MEDGR2_COMPUTE__MODE names, except ray-job, which also needs to know the request."""
    if settings.compute.mode == "inline":
        return Inline(settings)
    require_ray()
    from medgr2.infra.compute_ray import RayPool

    return RayPool.local(settings)


def require_ray() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "Ray is not installed",
            where="MEDGR2_COMPUTE__MODE",
            next_command="pip install 'medgr2[ray]'  or set MEDGR2_COMPUTE__MODE=inline",
        ) from None
