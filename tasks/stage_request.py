"""What a stage is asked to do, and what came of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from medgr2.infra.compute import Resources, Work
from medgr2.infra.objects import ObjectStore
from medgr2.infra.settings import Settings
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.digest import digest_of
from medgr2.schemas.reports import StageReport


class StageRequest(BaseModel):
    """What a stage is asked to do. Empty fields come from the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    worker: str = Field(description="Import path: medgr2.tasks.generate:GenerateWorker")
    run: str
    batch_size: int = Field(default=32, ge=1)
    resources: Resources = Resources()
    attempts: int | None = Field(default=None, ge=1)
    failure_limit: float | None = Field(default=None, ge=0, le=1)
    deadline_seconds: float | None = Field(default=None, gt=0)

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
        )


@dataclass(frozen=True, slots=True)
class StageResult:
    report: StageReport
    cells: tuple[Cell, ...]
    """The found cells, each once, in the order in which they were given."""
    outcomes: dict[str, Outcome]
    """By key, in the order of the cells, with values: fresh and reused ones alike."""
    damaged: tuple[str, ...] = ()
    """Journal segments that could not be read; their cells were done again."""


def post_request(store: ObjectStore, request: StageRequest, cells: Iterable[Cell]) -> tuple[str, str]:
    """Put a settled request where a job can read it; its key, and the digest that names the job."""
    given = list(cells)
    head = request.model_dump(mode="json")
    digest = digest_of([head, sorted(cell.key for cell in given)])
    body = {"request": head, "cells": [[c.key, c.image, c.parents, c.inputs, c.locator] for c in given]}
    key = f"requests/{request.recipe.stage}/{digest}.json.gz"
    store.put(key, gzip.compress(json.dumps(body).encode(), compresslevel=1, mtime=0))
    return key, digest


def read_request(store: ObjectStore, key: str) -> tuple[StageRequest, list[Cell]]:
    body = json.loads(gzip.decompress(store.get(key)))
    cells = [
        Cell(key=name, image=image, parents=tuple(parents), inputs=inputs, locator=locator)
        for name, image, parents, inputs, locator in body["cells"]
    ]
    return StageRequest.model_validate(body["request"]), cells
