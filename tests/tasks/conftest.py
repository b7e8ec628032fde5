"""A small lake with pictures, patients, items, scores and versions, for the tests of training and evaluation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scripted_ward import drawn_ward, fresh_ward, honest_night, ward

from medgr2.infra.artifacts import put_folder
from medgr2.infra.images import ImageStore
from medgr2.infra.lake import Lake
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.infra.versions import publish
from medgr2.models.registry import Source
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.items import Item
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.lessons import source_of
from medgr2.tasks.stage import StageRequest, run_stage

__all__ = ["drawn_ward", "fresh_ward", "honest_night", "ward"]

BASE = Path(__file__).parents[2] / "models" / "base"
OPTIONS = ("CT", "MRI", "OCT", "X-Ray")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Schoolroom:
    def __init__(self, root: Path) -> None:
        self.settings = Settings(
            storage=StorageSettings(root=str(root)), compute=ComputeSettings(mode="inline", attempts=1)
        )
        self.store = FolderStore(str(root))
        self.lake = Lake(self.settings.storage)
        self.images = ImageStore(self.store, self.settings.storage.cache_folder)
        self.now = NOW
        self.plans: list[str] = []
        self.base = put_folder(self.store, BASE)

    def picture(self, number: int, *, split: str = "train", patient: str = "") -> str:
        pixels = np.random.default_rng(number).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        image_id = self.images.put(buffer.getvalue())
        row = {
            "image_id": image_id, "modality": OPTIONS[number % 4], "split": split, "report": "CT of the chest",
            "patient_key": patient or f"patient-{number}", "added_at": NOW,
        }  # fmt: skip
        self.lake.append_new("images", [row], key="image_id")
        return image_id

    def item(self, image_id: str, number: int, origin: str = "generated") -> str:
        item = Item(
            image_id=image_id,
            question_type=QuestionType.MODALITY,
            question=f"Which modality is picture {number}?",
            options=OPTIONS,
            answer="ABCD"[number % 4],
            rationale=f"It shows {OPTIONS[number % 4]}.",
        )
        row = item.model_dump(mode="json") | {"item_id": item.item_id, "origin": origin, "added_at": NOW}
        self.lake.append_new("items", [row], key="item_id")
        return item.item_id

    def score(self, item_id: str, agree: float, p_valid: float | None, when: datetime = NOW) -> None:
        row: dict[str, Any] = {"item_id": item_id, "agree": agree, "p_valid": p_valid, "scored_at": when}
        self.lake.append_new("scores", [row | {"score_id": f"{item_id}-{when:%s}"}], key="score_id")

    def publish(self, dataset: str, items: Sequence[str]) -> DatasetVersion:
        return publish(self.lake, dataset=dataset, add=items, card={}, run="test")

    def source(self, dataset: str, items: Sequence[str]) -> Source:
        return source_of(self.publish(dataset, items))

    def run(self, recipe: Recipe, worker: str, cells: Sequence[Cell], batch_size: int = 8) -> dict[str, Outcome]:
        request = StageRequest(recipe=recipe, worker=worker, run="test", batch_size=batch_size, failure_limit=1.0)
        result = run_stage(
            request,
            cells,
            settings=self.settings,
            store=self.store,
            on_plan=lambda plan: self.plans.append(plan.line()),
        )
        return result.outcomes


@pytest.fixture
def room(tmp_path: Path) -> Schoolroom:
    return Schoolroom(tmp_path / "root")


@pytest.fixture(scope="module")
def shared_room(tmp_path_factory: pytest.TempPathFactory) -> Schoolroom:
    return Schoolroom(tmp_path_factory.mktemp("room") / "root")
