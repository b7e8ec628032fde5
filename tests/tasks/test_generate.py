"""Cells of generation, what becomes of them, and the worker on a real (tiny) model."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings, StorageSettings
from medgr2.models.model_ref import base_model
from medgr2.schemas.cells import Outcome
from medgr2.schemas.errors import NotFoundError
from medgr2.schemas.items import Draft
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.vocabulary import LETTERS, QuestionType, Verdict
from medgr2.tasks.generate import GenerateWorker, cells, collect, item_of, recipe

HOW = recipe("m" * 64, GenerateParameters())
DRAFT = {"question": "What is it?", "options": ["cyst", "nodule", "x", "y"], "answer": "B", "rationale": "So nodule."}


def rows(*ids: str, **changes: Any) -> list[dict[str, Any]]:
    return [{"image_id": one * 64, "split": "train", "report": "CT, head", **changes} for one in ids]


def test_one_cell_for_each_image_type_and_sample_in_an_order_of_its_own() -> None:
    once = list(cells(HOW, rows("b", "a"), question_types=list(QuestionType), samples=3))
    assert len({cell.key for cell in once}) == 2 * 5 * 3
    again = list(cells(HOW, rows("a", "b"), question_types=list(QuestionType), samples=3))
    assert [c.key for c in again] == [c.key for c in once]
    more = list(cells(HOW, rows("a", "b"), question_types=list(QuestionType), samples=4))
    assert {c.key for c in once} < {c.key for c in more}


def test_heldout_images_are_never_asked_about() -> None:
    mixed = rows("a") + rows("b", split="heldout") + rows("c", split="something new")
    assert {c.image for c in cells(HOW, mixed, question_types=list(QuestionType), samples=1)} == {"a" * 64}


def test_the_key_follows_what_can_change_the_draft() -> None:
    def key(**changes: Any) -> str:
        how = recipe("m" * 64, GenerateParameters(**changes.pop("parameters", {})))
        return next(cells(how, rows("a", **changes), question_types=[QuestionType.DISEASE], samples=1)).key

    assert key() == key(patient_key="another", modality="MRI")
    assert key() != key(report="MRI")
    assert key() != key(parameters={"temperature": 0.5})
    assert key(report=None) == key(report="")


def test_collect_keeps_accepted_drafts_once() -> None:
    asked = list(cells(HOW, rows("a"), question_types=[QuestionType.DISEASE], samples=4))
    outcomes = {
        asked[0].key: Outcome.accepted(asked[0], DRAFT),
        asked[1].key: Outcome.accepted(asked[1], DRAFT),
        asked[2].key: Outcome.rejected(asked[2], "not_json"),
        asked[3].key: Outcome.failed(asked[3], "deadline"),
    }
    kept = collect(asked, outcomes, HOW, "night/1")
    ((item_id, row),) = kept.items()
    assert item_of(row).item_id == item_id == row["item_id"]
    assert (row["cell"], row["origin"], row["generator"]) == (asked[0].key, "generated", "m" * 64)
    assert "report" not in row


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(storage=StorageSettings(root=str(tmp_path_factory.mktemp("root"))))


@pytest.fixture(scope="module")
def images(settings: Settings) -> list[str]:
    store = ImageStore(open_store(settings.storage), settings.storage.cache_folder)
    rng = np.random.default_rng(0)
    ids = []
    for _ in range(4):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
        ids.append(store.put(file.getvalue()))
    return ids


def test_the_worker_answers_every_cell_whatever_the_batch(settings: Settings, images: list[str]) -> None:
    how = recipe(base_model(settings).revision, GenerateParameters())
    stored = [{"image_id": i, "split": "train", "report": "CT, head, nodule, grade mild, upper left"} for i in images]
    asked = list(cells(how, stored, question_types=list(QuestionType), samples=2))
    worker = GenerateWorker(how, settings)
    together = {outcome.key: outcome for outcome in worker(asked)}
    assert set(together) == {cell.key for cell in asked}
    assert {key: together[key] for key in (c.key for c in asked[7:12])} == {o.key: o for o in worker(asked[7:12])}
    drafts = [Draft.model_validate(o.value) for o in together.values() if o.verdict is Verdict.ACCEPTED]
    assert len(drafts) > 30  # the base writes well-formed JSON nearly always
    assert set(Counter(draft.answer for draft in drafts)) <= set(LETTERS)
    assert all(o.reasons and o.value is None for o in together.values() if o.verdict is Verdict.REJECTED)


def test_a_missing_image_is_an_error_for_the_stage_to_retry_cell_by_cell(settings: Settings) -> None:
    how = recipe(base_model(settings).revision, GenerateParameters())
    (cell,) = cells(how, rows("e"), question_types=[QuestionType.DISEASE], samples=1)
    with pytest.raises(NotFoundError, match="no image"):
        list(GenerateWorker(how, settings)([cell]))


def test_the_base_is_put_into_the_store_once(settings: Settings) -> None:
    first, second = base_model(settings), base_model(settings)
    assert first == second
    assert (first.folder / "model.safetensors").is_file()
    assert Path(settings.storage.root) in first.folder.parents
