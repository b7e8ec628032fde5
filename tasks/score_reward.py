"""The trained reward's look at items: how sure those members are that a claim holds which never saw its picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from medgr2.infra.images import ImageStore
from medgr2.infra.lake import Lake
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.models.judging import JUDGE
from medgr2.models.prompts import load_prompt
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import DataError, NightStoppedError, NotFoundError, UsageError
from medgr2.schemas.items import Item
from medgr2.tasks.claims import claim_inputs, claim_of
from medgr2.tasks.reward_folds import folds
from medgr2.tasks.stage import StageRequest

STAGE = "score-reward"
CODE = "2"
SIGNALS = ("rm", "rm_std")
"""The members' mean and their spread."""
BATCH = 32


def recipe(reward: str) -> Recipe:
    return Recipe(stage=STAGE, code=CODE, model=reward, prompt=load_prompt(JUDGE), parameters={"dtype": "float64"})


def asked_for(
    reward: str, exams: Sequence[tuple[str, Item]], *, run: str, lake: Lake
) -> tuple[StageRequest, list[Cell]]:
    how, fold = recipe(reward), folds(lake, (item.image_id for _, item in exams))
    cells = [
        how.cell(
            image=item.image_id,
            parents=(item_id,),
            inputs=claim_inputs(item) | {"fold": fold[item.image_id]},
        )
        for item_id, item in exams
    ]
    worker = "medgr2.tasks.score_reward:RewardScoreWorker"
    return StageRequest(recipe=how, worker=worker, batch_size=BATCH, run=run), cells


class RewardScoreWorker:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        from medgr2.models.model_ref import materialise

        self._folder = materialise(recipe.model, settings).folder
        self._dtype = str(recipe.parameters["dtype"])
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        for fold, group in groupby(sorted(cells, key=_fold), key=_fold):
            of_fold = list(group)
            opinions = self._ensemble(fold).judge([claim_of(cell, self._images) for cell in of_fold])
            for cell, opinion in zip(of_fold, opinions, strict=True):
                yield Outcome.accepted(cell, {"rm": opinion.mean, "rm_std": opinion.std})

    def _ensemble(self, fold: int) -> Any:
        """A reward that cannot be read is no item's fault: the night ends, and not every item by itself."""
        from medgr2.models.reward_model import Ensemble, load_reward

        try:
            return Ensemble([load_reward(member, dtype=self._dtype) for member in members(self._folder, fold)])
        except (DataError, NotFoundError, UsageError) as e:
            raise NightStoppedError(
                f"the reward of this night cannot judge: {e.what}",
                where=e.where,
                kept="every draft, and the signals that were measured before; nothing was published",
                next_command="medgr2 rollback reward, then medgr2 refresh under another --night: this one stays with "
                "the reward that it began with",
            ) from e


def _fold(cell: Cell) -> int:
    return int(cell.inputs["fold"])


def place(fold: int, member: int) -> str:
    """Where in a reward's folder the member stands that learned from none of this fold's pictures, and judges them."""
    return f"fold-{fold}/member-{member}"


def members(folder: Path, fold: int) -> list[Path]:
    found = sorted(path for path in (folder / f"fold-{fold}").glob("member-*") if path.is_dir())
    if not found:
        raise DataError(
            f"not a reward: its folder holds no member that may judge fold {fold}",
            where=str(folder),
            kept="no item was scored",
            next_command="medgr2 rollback reward, or train the reward again",
        )
    return found
