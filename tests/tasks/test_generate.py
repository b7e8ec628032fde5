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
from medgr2.infra.settings import GeneratorSettings, Settings, StorageSettings
from medgr2.models.model_ref import base_model
from medgr2.models.styles import DEFAULT, EMBEDDED, STYLES, Style
from medgr2.schemas.cells import Cell, Outcome
from medgr2.schemas.errors import UsageError
from medgr2.schemas.items import Draft
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.vocabulary import LETTERS, QuestionType, Verdict
from medgr2.tasks.asking import Wanted, want
from medgr2.tasks.drafting import GenerateWorker, recipe, request_of, style_of
from medgr2.tasks.generate import collect, item_of

OURS = Settings()
SERVED = Settings(generator=GeneratorSettings(engine="openai", url="http://127.0.0.1:1/v1", model="m", in_flight=8))
HOW = recipe("m" * 64, GenerateParameters(), OURS)
DRAFT = {"question": "What is it?", "options": ["cyst", "nodule", "x", "y"], "answer": "B", "rationale": "So nodule."}


def rows(*ids: str, **changes: Any) -> list[dict[str, Any]]:
    one = {"split": "train", "report": "CT, head", "modality": "CT", "anatomy": None, "labels": None, "source": "s"}
    return [{"image_id": name * 64, **one, **changes} for name in ids]


def asked_of(images: list[dict[str, Any]], how: Any = HOW, style: Style = EMBEDDED, **parameters: Any) -> Wanted:
    return want(images, how, style, GenerateParameters(**parameters))


def test_the_recipe_of_the_embedded_model_is_what_it_always_was() -> None:
    """Its digest is in the key of everything that was ever bought."""
    assert HOW.prompt == "Task: write one {question_type} question. Report: {report}"
    assert HOW.parameters == {"temperature": 1.0, "max_new_tokens": 128, "dtype": "float64"}
    (cell,) = asked_of(rows("a"), question_types=[QuestionType.DISEASE]).cells
    assert cell.inputs == {"question_type": "Disease Diagnosis", "report": "CT, head", "sample": 0}
    assert cell.key == "eddd3b90df72ea52f4b2897be95b35f7464404615b8123fc66957acecbfe159f"


def test_one_cell_for_each_image_type_and_sample_in_an_order_of_its_own() -> None:
    once = asked_of(rows("b", "a"), samples=3).cells
    assert len({cell.key for cell in once}) == 2 * 5 * 3
    assert asked_of(rows("a", "b"), samples=3).cells == once
    more = asked_of(rows("a", "b"), samples=4).cells
    assert more[: len(once)] == once, "what was begun stays begun"
    assert [cell.image[0] for cell in once] == [*"aaaaabbbbb"] * 3


def test_heldout_images_are_never_asked_about() -> None:
    mixed = rows("a") + rows("b", split="heldout") + rows("c", split="something new")
    assert {c.image for c in asked_of(mixed).cells} == {"a" * 64}


def test_the_key_follows_what_can_change_the_draft() -> None:
    def key(**changes: Any) -> str:
        how = recipe("m" * 64, GenerateParameters(**changes.pop("parameters", {})), OURS)
        return asked_of(rows("a", **changes), how, question_types=[QuestionType.DISEASE]).cells[0].key

    assert key() == key(patient_key="another", modality="MRI", labels='{"diagnosis": "cyst"}')
    assert key() != key(report="MRI")
    assert key() != key(parameters={"temperature": 0.5})
    assert key() == key(parameters={"quotas": {"CT": 0.5}, "repairs": 3, "samples": 2})
    assert key(report=None) == key(report="")


def test_a_prompt_says_what_it_names_and_nothing_else() -> None:
    """So an image whose labels are corrected is asked anew where its labels are shown, and only there."""
    how = recipe("served:m", GenerateParameters(), SERVED)

    def cell(template: str, **changes: Any) -> Cell:
        style = how.model_copy(update={"prompt": template})
        return asked_of(rows("a", **changes), style, DEFAULT, question_types=[QuestionType.MODALITY]).cells[0]

    shown = cell("{question_type} {labels} {report}", labels='{"diagnosis": "cyst", "question_types": "x"}')
    assert set(shown.inputs) == {"question_type", "labels", "report", "sample"}
    assert shown.inputs["labels"] == "diagnosis: cyst"
    for name, one, other in (("labels", '{"grade": "II"}', None), ("modality", "CT", "MRI"), ("anatomy", "head", None)):
        assert cell("{%s}" % name, **{name: one}).key != cell("{%s}" % name, **{name: other}).key  # noqa: UP031
        assert cell("{report}", **{name: one}).key == cell("{report}", **{name: other}).key


def test_what_no_fact_supports_is_not_asked_and_counted() -> None:
    how = recipe("served:m", GenerateParameters(), SERVED)
    images = rows("a", report=None) + rows("b") + rows("c", report=None, labels='{"diagnosis": "x", "grade": "mild"}')
    found = asked_of(images, how, DEFAULT)
    assert found.unsupported == {"Disease Diagnosis": 1, "Lesion Grading": 2}
    assert len(found.cells) == 15 - 3
    assert asked_of(images).unsupported == {}, "the embedded model asks whatever it is told to"


def test_quotas_hold_for_an_image_whatever_others_come_in() -> None:
    images = [
        {**row, "image_id": f"{n:064x}", "modality": ("CT", "MRI")[n % 2]} for n, row in enumerate(rows("a") * 400)
    ]
    quotas = {QuestionType.MODALITY: 0.5, "MRI": 0.25, QuestionType.GRADING: 0}
    some = asked_of(images, quotas=quotas).cells
    told = {row["image_id"]: row["modality"] for row in images}
    counts = Counter((told[cell.image], cell.inputs["question_type"]) for cell in some)
    assert counts["CT", "Disease Diagnosis"] == 200
    assert 80 < counts["CT", "Modality Recognition"] < 120
    assert 35 < counts["MRI", "Disease Diagnosis"] < 65
    assert counts["CT", "Lesion Grading"] == counts["MRI", "Lesion Grading"] == 0
    assert {c.key for c in asked_of(images[:100], quotas=quotas).cells} <= {c.key for c in some}
    larger = {**quotas, QuestionType.MODALITY: 0.8}
    assert {c.key for c in some} < {c.key for c in asked_of(images, quotas=larger).cells}


def test_a_served_model_is_asked_in_words_and_streamed() -> None:
    how = recipe("served:m", GenerateParameters(repairs=2), SERVED)
    assert style_of(GenerateParameters(), SERVED) is DEFAULT
    assert style_of(GenerateParameters(style="direct"), SERVED) is STYLES["direct"]
    assert how.parameters["engine"] == "openai"
    request = request_of(how, SERVED, "n/1")
    assert request.calls == 3
    assert request.in_flight is not None
    assert request.in_flight >= 8
    assert request_of(HOW, OURS, "n/1").in_flight is None
    other = recipe("served:m", GenerateParameters(repairs=2, style="direct"), SERVED)
    assert len({how.digest, other.digest, recipe("served:m", GenerateParameters(repairs=1), SERVED).digest}) == 3


def test_the_embedded_model_is_not_asked_in_words_that_it_does_not_know() -> None:
    with pytest.raises(UsageError, match="own words"):
        recipe("m" * 64, GenerateParameters(style="direct"), OURS)


def test_collect_keeps_accepted_drafts_once() -> None:
    asked = asked_of(rows("a"), question_types=[QuestionType.DISEASE], samples=4)
    one, two, three, four = asked.cells
    outcomes = {
        one.key: Outcome.accepted(one, DRAFT),
        two.key: Outcome.accepted(two, DRAFT),
        three.key: Outcome.rejected(three, "not_json"),
        four.key: Outcome.failed(four, "deadline"),
    }
    kept = collect(asked.cells, outcomes, HOW, "night/1", prompt=EMBEDDED.prompt, contexts=asked.contexts)
    ((item_id, row),) = kept.items()
    assert item_of(row).item_id == item_id == row["item_id"]
    assert (row["cell"], row["origin"], row["generator"]) == (one.key, "generated", "m" * 64)
    assert row["context"].startswith("report:")
    assert "head" not in str(row)


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
    how = recipe(base_model(settings).revision, GenerateParameters(), settings)
    report = "CT, head, nodule, grade mild, upper left"
    asked = asked_of([{**rows("a", report=report)[0], "image_id": image} for image in images], how, samples=2).cells
    worker = GenerateWorker(how, settings)
    together = {outcome.key: outcome for outcome in worker(asked)}
    assert set(together) == {cell.key for cell in asked}
    assert {key: together[key] for key in (c.key for c in asked[7:12])} == {o.key: o for o in worker(asked[7:12])}
    drafts = [Draft.model_validate(o.value) for o in together.values() if o.verdict is Verdict.ACCEPTED]
    assert len(drafts) > 30  # the base writes well-formed JSON nearly always
    assert set(Counter(draft.answer for draft in drafts)) <= set(LETTERS)
    assert all(o.reasons and o.value is None for o in together.values() if o.verdict is Verdict.REJECTED)


def test_pictures_that_are_missing_or_damaged_cost_their_own_cells_only(settings: Settings, images: list[str]) -> None:
    how = recipe(base_model(settings).revision, GenerateParameters(), settings)
    store = ImageStore(open_store(settings.storage), settings.storage.cache_folder)
    torn = store.put(b"once a picture")
    store.path(torn).write_bytes(b"no longer")
    asked = asked_of(rows("e") + [{**rows("a")[0], "image_id": one} for one in (torn, images[0])], how).cells
    outcomes = list(GenerateWorker(how, settings)(asked))
    found = Counter((cell.image, outcome.verdict) for outcome in outcomes for cell in asked if cell.key == outcome.key)
    assert found["e" * 64, Verdict.FAILED] == found[torn, Verdict.FAILED] == 5
    assert sum(n for (image, verdict), n in found.items() if image == images[0] and verdict != Verdict.FAILED) == 5
    reasons = Counter(outcome.reasons for outcome in outcomes if outcome.verdict is Verdict.FAILED)
    assert reasons == {("image_missing",): 5, ("image_damaged",): 5}
    assert all(outcome.usage is not None for outcome in outcomes)


def test_the_base_is_put_into_the_store_once(settings: Settings) -> None:
    first, second = base_model(settings), base_model(settings)
    assert first == second
    assert (first.folder / "model.safetensors").is_file()
    assert Path(settings.storage.root) in first.folder.parents
