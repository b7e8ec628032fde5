"""Stages in the local Ray of a test's own process, over the workers of tests/tasks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from medgr2.infra.compute import Work
from medgr2.infra.purse import Purse
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.schemas.cells import Cell, Outcome, Recipe

WORKERS = str(Path(__file__).parent / "tasks")
# Before any test starts Ray: its processes inherit it.
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([WORKERS, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
)
sys.path.insert(0, WORKERS)

RECIPE = Recipe(stage="squares", code="1")


def cells(n: int, bad: dict[int, str] | None = None) -> list[Cell]:
    return [RECIPE.cell(inputs={"n": i} | ({"do": bad[i]} if bad and i in bad else {})) for i in range(n)]


def settings_at(tmp_path: Path, workers: int = 2) -> Settings:
    return Settings(
        storage=StorageSettings(root=str(tmp_path / "root")), compute=ComputeSettings(mode="ray-local", workers=workers)
    )


def run(tmp_path: Path, given: Sequence[Cell], *, workers: int = 2, **work: object) -> list[Outcome]:
    from medgr2.infra.compute_ray import RayPool

    order = Work.model_validate({"recipe": RECIPE, "worker": "stage_workers:Counting", **work})
    return list(RayPool.local(settings_at(tmp_path, workers)).run(order, given, {}, Purse()))
