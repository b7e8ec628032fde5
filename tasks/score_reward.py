"""The trained reward's look at items: how sure the members of its ensemble are that a claim holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.models.judging import JUDGE, Claim
from medgr2.models.prompts import load_prompt
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Item
from medgr2.tasks.stage import StageRequest

STAGE = "score-reward"
CODE = "1"
SIGNALS = ("rm", "rm_std")
"""The members' mean and their spread."""
BATCH = 32
MEMBERS = "member-*"


def recipe(reward: str) -> Recipe:
    return Recipe(stage=STAGE, code=CODE, model=reward, prompt=load_prompt(JUDGE), parameters={"dtype": "float64"})


def asked_for(reward: str, exams: Iterable[tuple[str, Item]], *, run: str) -> tuple[StageRequest, list[Cell]]:
    how = recipe(reward)
    fields = {"question", "options", "answer", "rationale"}
    cells = [
        how.cell(image=item.image_id, parents=(item_id,), inputs=item.model_dump(mode="json", include=fields))
        for item_id, item in exams
    ]
    worker = "medgr2.tasks.score_reward:RewardScoreWorker"
    return StageRequest(recipe=how, worker=worker, batch_size=BATCH, run=run), cells


class RewardScoreWorker:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        from medgr2.models.model_ref import materialise
        from medgr2.models.reward_model import Ensemble, load_reward

        folder = materialise(recipe.model, settings).folder
        dtype = str(recipe.parameters["dtype"])
        self._ensemble = Ensemble([load_reward(member, dtype=dtype) for member in members(folder)])
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        claims = [
            Claim(
                image_path=self._images.path(cell.image),
                question=str(cell.inputs["question"]),
                options=tuple(cell.inputs["options"]),
                answer=str(cell.inputs["answer"]),
                rationale=str(cell.inputs["rationale"]),
            )
            for cell in cells
        ]
        for cell, opinion in zip(cells, self._ensemble.judge(claims), strict=True):
            yield Outcome.accepted(cell, {"rm": opinion.mean, "rm_std": opinion.std})


def members(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob(MEMBERS) if path.is_dir())
    if not found:
        raise DataError(
            "not a reward: its folder holds no member",
            where=str(folder),
            kept="no item was scored",
            next_command="medgr2 rollback reward, or train the reward again",
        )
    return found
