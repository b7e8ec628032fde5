"""Training a reward: a cell a member, each learning from the pictures of all folds but the one that it is to judge."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from medgr2.infra.artifacts import get_folder, put_folder
from medgr2.infra.images import ImageStore
from medgr2.infra.lake import Lake
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.models.judging import JUDGE
from medgr2.models.model_ref import materialise
from medgr2.models.perturbation_pool import Pool
from medgr2.models.prompts import load_prompt
from medgr2.models.registry import Source
from medgr2.models.reward_lessons import Witnessed, lessons
from medgr2.models.reward_training import RewardExample, RewardSettings, train_reward
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.tasks import reward_evidence
from medgr2.tasks.claims import claim_about
from medgr2.tasks.lessons import images_of
from medgr2.tasks.looks import looks_of
from medgr2.tasks.reward_folds import FOLDS, folds
from medgr2.tasks.score_reward import place
from medgr2.tasks.training_cell import Training, train_once

STAGE = "train-reward"
CODE = "3"
WORKER = "medgr2.tasks.reward_train:RewardTrainWorker"


class RewardPlan(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: RewardSettings
    members: int = Field(default=2, ge=1, le=8, description="Seeds of each fold; where they differ, nobody is sure.")


def reward_recipe(plan: RewardPlan, base: str) -> Recipe:
    return Recipe(
        stage=STAGE, code=CODE, model=base, prompt=load_prompt(JUDGE), parameters=plan.model_dump(mode="json")
    )


def reward_cells(recipe: Recipe, source: Source, evidence: str) -> dict[str, Cell]:
    """By the place of the member in the reward's folder."""
    plan = RewardPlan.model_validate(recipe.parameters)
    taught: dict[str, Any] = {"source": source.model_dump(), "evidence": evidence}
    return {
        place(fold, member): recipe.cell(inputs={**taught, "fold": fold, "member": member})
        for fold in range(FOLDS)
        for member in range(plan.members)
    }


def assemble(workspace: Workspace, members: Mapping[str, str]) -> str:
    """The reward whose members are these artifacts, by their places; its own artifact."""
    cache = workspace.settings.storage.cache_folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="reward-") as whole:
        for where, artifact in members.items():
            shutil.copytree(get_folder(workspace.store, artifact, cache), Path(whole) / where)
        return put_folder(workspace.store, Path(whole))


class RewardTrainWorker:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._recipe, self._settings = recipe, settings
        self._plan = RewardPlan.model_validate(recipe.parameters)
        self._store = open_store(settings.storage)
        self._lake = Lake(settings.storage)
        self._images = ImageStore(self._store, settings.storage.cache_folder)

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        return (
            train_once(cell, self._settings, self._store, lambda cell=cell: self._prepare(cell))  # type: ignore[misc]
            for cell in cells
        )

    def _prepare(self, cell: Cell) -> Training:
        base = materialise(self._recipe.model, self._settings).folder
        source = Source.model_validate(cell.inputs["source"])
        found = reward_evidence.read(self._lake, self._store, source, str(cell.inputs["evidence"]))
        fold = folds(self._lake, (one.item.image_id for one in found))
        seen = [one for one in found if fold[one.item.image_id] != cell.inputs["fold"]]
        images = images_of(self._lake, {one.item.image_id for one in seen})
        for image in images:
            self._images.path(image)  # a damaged one can be restored: that is no verdict on the lessons
        modality = {image: str(row["modality"] or "") for image, row in images.items()}
        settings = self._plan.settings
        settings = settings.model_copy(
            update={
                "seed": settings.seed + int(cell.inputs["member"]),
                "checkpoint_every": self._settings.training.checkpoint_every,
            }
        )
        return lambda out: train_reward(base, self._examples(seen, modality, settings), out, settings)

    def _examples(
        self, seen: Sequence[Witnessed], modality: Mapping[str, str], settings: RewardSettings
    ) -> list[RewardExample]:
        pool = Pool((one.item for one in seen if one.holds), modality, looks_of(self._lake, modality))
        return [
            RewardExample(claim_about(lesson.item, self._images), lesson.target, lesson.weight)
            for lesson in lessons(seen, pool, settings.form, settings.seed)
        ]
