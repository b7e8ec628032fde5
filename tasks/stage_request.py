"""What a stage is asked to do, and what came of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from medgr2.infra.compute import Resources, Work
from medgr2.infra.journal_values import HeldOutcomes
from medgr2.infra.objects import ObjectStore
from medgr2.infra.settings import Settings
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.digest import digest_of
from medgr2.schemas.reports import StageReport
from medgr2.schemas.usage import Budget


class StageRequest(BaseModel):
    """What a stage is asked to do. Empty fields come from the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    worker: str = Field(description="Import path: medgr2.tasks.drafting:GenerateWorker")
    run: str
    batch_size: int = Field(default=32, ge=1)
    resources: Resources = Resources()
    in_flight: int | None = Field(
        default=None,
        ge=1,
        description="For a worker that waits for a server: it is fed cell by cell, in the driver's own process, and "
        "never has more cells than this without a durable outcome. Empty means batches.",
    )
    calls: int = Field(default=1, ge=1, description="The most calls that one cell can take; a budget reckons with it.")
    attempts: int | None = Field(default=None, ge=1)
    failure_limit: float | None = Field(default=None, ge=0, le=1)
    deadline_seconds: float | None = Field(default=None, gt=0)
    saves: bool = Field(default=False, description="The worker, given notice and a grace, saves what it has begun.")

    def settled(self, settings: Settings) -> StageRequest:
        """The same request with nothing left open."""
        compute = settings.compute
        return self.model_copy(
            update={
                "attempts": compute.attempts if self.attempts is None else self.attempts,
                "failure_limit": compute.failure_limit if self.failure_limit is None else self.failure_limit,
                "deadline_seconds": compute.deadline_seconds
                if self.deadline_seconds is None
                else self.deadline_seconds,
            }
        )

    def work(self) -> Work:
        if self.attempts is None or self.deadline_seconds is None:
            raise ValueError("settle the request first")
        return Work(
            recipe=self.recipe,
            worker=self.worker,
            batch_size=self.batch_size,
            resources=self.resources,
            attempts=self.attempts,
            deadline_seconds=self.deadline_seconds,
            saves=self.saves,
        )


class Limit(NamedTuple):
    """A budget, and from when on (nanoseconds since the epoch) what the cells cost counts against it; without a
    beginning, from this run on."""

    budget: Budget | None = None
    since: int | None = None


NO_LIMIT = Limit()


@dataclass(frozen=True)
class StageResult:
    report: StageReport
    cells: tuple[Cell, ...]
    """The found cells, each once, in the order in which they were given."""
    outcomes: HeldOutcomes
    """By key, in the order of the cells, fresh and reused ones alike; none of cells that are left."""
    asked: int
    """So many cells, counted from the first, have an outcome without a gap."""
    damaged: tuple[str, ...] = ()
    """Journal segments that could not be read; their cells were done again."""

    def pairs(self) -> Iterator[tuple[Cell, Outcome]]:
        """Each cell that has an outcome, with it: of a million cells, few are in memory at once."""
        return ((cell, self.outcomes[cell.key]) for cell in self.cells if cell.key in self.outcomes)

    @cached_property
    def digest(self) -> str:
        """Equal for runs that agree on every cell, wherever and in whatever order they did them."""
        return self.outcomes.digest


def post_request(
    store: ObjectStore, request: StageRequest, cells: Iterable[Cell], limit: Limit = NO_LIMIT
) -> tuple[str, str]:
    """Put a settled request where a job can read it; its key, and the digest that names the job."""
    given = list(cells)
    head = request.model_dump(mode="json")
    budget = None if limit.budget is None else limit.budget.model_dump(mode="json")
    digest = digest_of([head, budget, limit.since, sorted(cell.key for cell in given)])
    body = {
        "request": head,
        "budget": budget,
        "since": limit.since,
        "cells": [[c.key, c.image, c.parents, c.inputs, c.locator] for c in given],
    }
    key = f"requests/{request.recipe.stage}/{digest}.json.gz"
    store.put(key, gzip.compress(json.dumps(body).encode(), compresslevel=1, mtime=0))
    return key, digest


def read_request(store: ObjectStore, key: str) -> tuple[StageRequest, list[Cell], Limit]:
    body = json.loads(gzip.decompress(store.get(key)))
    cells = [
        Cell(key=name, image=image, parents=tuple(parents), inputs=inputs, locator=locator)
        for name, image, parents, inputs, locator in body["cells"]
    ]
    budget = None if body["budget"] is None else Budget.model_validate(body["budget"])
    return StageRequest.model_validate(body["request"]), cells, Limit(budget, body["since"])
