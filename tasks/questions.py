"""Questions people wrote: the human seed and the held-out set come in as datasets `seed` and `heldout`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medgr2.infra import versions
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, NotFoundError, UsageError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import PEOPLE_DATASETS, SEED
from medgr2.schemas.reports import DatasetVersion, StageReport
from medgr2.schemas.vocabulary import Origin, Split, Verdict
from medgr2.tasks.stage import Announce, StageRequest, run_and_record

Rows = Iterable[tuple[int, Any]]
RECIPE = Recipe(stage="questions", code="2")


class QuestionWorker:
    """Checks one human question against the contract of an item."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        del recipe, settings

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        return (_check(cell) for cell in cells)


def _check(cell: Cell) -> Outcome:
    if problem := cell.inputs.get("problem"):
        return Outcome.rejected(cell, problem)
    try:
        item = Item.model_validate({**cell.inputs["row"], "image_id": cell.image})
    except ValidationError as e:
        first = e.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return Outcome.rejected(cell, "schema:" + (where or "item"), detail=str(first["type"]))
    if cell.inputs["taught"] and not item.rationale:
        return Outcome.rejected(cell, "no_rationale")
    return Outcome.accepted(cell, item.model_dump(mode="json"))


def take_questions(
    workspace: Workspace, rows: Rows, folder: Path, dataset: str, *, run: str, announce: Announce
) -> tuple[StageReport, DatasetVersion]:
    """Rows {file, question_type, question, options, answer, rationale}, numbered; `file` lies in the folder."""
    if dataset not in PEOPLE_DATASETS:
        raise UsageError(f"questions of people go to {' or '.join(PEOPLE_DATASETS)}, not to {dataset}")
    stored = StoredImages(workspace)
    wanted = Split.TRAIN if dataset == SEED else Split.HELDOUT
    cells = [_cell(row, number, folder, stored, wanted) for number, row in rows]
    request = StageRequest(recipe=RECIPE, worker="medgr2.tasks.questions:QuestionWorker", batch_size=64, run=run)
    result = run_and_record(request, cells, workspace, announce)
    items = [
        _item_row(Item.model_validate(outcome.value), cell, run)
        for cell in result.cells
        if (outcome := result.outcomes[cell.key]).verdict is Verdict.ACCEPTED
    ]
    if not items:
        raise DataError(
            f"no usable question for the dataset {dataset!r}", where=str(folder), kept="the reasons, in outcomes"
        )
    workspace.lake.append_new("items", items, key="item_id")
    ids = [row["item_id"] for row in items]
    version = versions.publish(workspace.lake, dataset=dataset, add=ids, card={"origin": "human"}, run=run)
    return result.report, version


def questions_in(file: Path) -> Iterator[tuple[int, Any]]:
    if not file.is_file():
        raise NotFoundError("no questions file", where=str(file), kept="the images already taken in")
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError:
                    yield number, None


class StoredImages:
    """Images by the bytes of the file that they came in: metadata is gone from what is stored."""

    def __init__(self, workspace: Workspace) -> None:
        self.splits: dict[str, str] = {}
        self._of_file: dict[str, set[str]] = defaultdict(set)
        for row in workspace.lake.read("images", columns=["image_id", "origin", "split"]).to_pylist():
            self.splits[row["image_id"]] = row["split"]
            for content in {row["image_id"], row["origin"]}:
                self._of_file[content].add(row["image_id"])

    def of_file(self, content: str) -> set[str]:
        return self._of_file.get(content, set())


def _cell(row: Any, number: int, folder: Path, stored: StoredImages, wanted: Split) -> Cell:
    if not isinstance(row, dict) or not isinstance(row.get("file"), str):
        return RECIPE.cell(inputs={"problem": "not_a_question", "line": number})
    picture = folder / row["file"]
    if not picture.is_file():
        return RECIPE.cell(inputs={"problem": "no_such_image", "line": number})
    content = sha256_hex(picture.read_bytes())
    body = {k: v for k, v in row.items() if k != "file"}
    taught = wanted == Split.TRAIN
    images = stored.of_file(content)
    if len(images) != 1:
        problem = "file_of_several_pictures" if images else "image_not_ingested"
        return RECIPE.cell(image=content, inputs={"problem": problem, "row": body})
    (image,) = images
    if stored.splits[image] != wanted:
        # A held-out image in the seed would leak the exam into the lessons.
        return RECIPE.cell(image=image, inputs={"problem": f"image_is_{stored.splits[image]}", "row": body})
    return RECIPE.cell(image=image, inputs={"row": body, "taught": taught})


def _item_row(item: Item, cell: Cell, run: str) -> dict[str, Any]:
    return {
        **item.model_dump(mode="json"), "item_id": item.item_id, "origin": Origin.HUMAN.value,
        "recipe": RECIPE.digest, "cell": cell.key, "run": run, "added_at": datetime.now(UTC),
    }  # fmt: skip
