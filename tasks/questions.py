"""Questions people wrote: the human seed and the held-out set come in as datasets `seed` and `heldout`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from medgr2.infra import versions
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.schemas.items import Item
from medgr2.schemas.reports import DatasetVersion, StageReport
from medgr2.schemas.vocabulary import Origin, Split, Verdict
from medgr2.tasks.stage import Announce, StageRequest, run_and_record

HumanDataset = Literal["seed", "heldout"]
SPLIT_OF: dict[str, Split] = {"seed": Split.TRAIN, "heldout": Split.HELDOUT}
RECIPE = Recipe(stage="questions", code="1")


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
    return Outcome.accepted(cell, item.model_dump(mode="json"))


def take_questions(
    workspace: Workspace, file: Path, dataset: HumanDataset, *, run: str, announce: Announce
) -> tuple[StageReport, DatasetVersion]:
    """Rows {file, question_type, question, options, answer, rationale}; `file` lies beside the questions' file."""
    stored = workspace.lake.read("images", columns=["image_id", "split"]).to_pylist()
    splits = {row["image_id"]: row["split"] for row in stored}
    cells = [_cell(row, number, file, splits, SPLIT_OF[dataset]) for number, row in _rows(file)]
    request = StageRequest(recipe=RECIPE, worker="medgr2.tasks.questions:QuestionWorker", batch_size=64, run=run)
    result = run_and_record(request, cells, workspace, announce)
    rows = [
        _item_row(Item.model_validate(outcome.value), cell, run)
        for cell in result.cells
        if (outcome := result.outcomes[cell.key]).verdict is Verdict.ACCEPTED
    ]
    if not rows:
        raise DataError(
            f"no usable question for the dataset {dataset!r}", where=str(file), kept="the reasons, in outcomes"
        )
    workspace.lake.append_new("items", rows, key="item_id")
    ids = [row["item_id"] for row in rows]
    version = versions.publish(workspace.lake, dataset=dataset, add=ids, card={"origin": "human"}, run=run)
    return result.report, version


def _rows(file: Path) -> Iterator[tuple[int, Any]]:
    if not file.is_file():
        raise NotFoundError("no questions file", where=str(file), kept="the images already taken in")
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError:
                    yield number, None


def _cell(row: Any, number: int, file: Path, splits: dict[str, str], wanted: Split) -> Cell:
    if not isinstance(row, dict) or not isinstance(row.get("file"), str):
        return RECIPE.cell(inputs={"problem": "not_a_question", "line": number})
    picture = file.parent / row["file"]
    if not picture.is_file():
        return RECIPE.cell(inputs={"problem": "no_such_image", "line": number})
    image = sha256_hex(picture.read_bytes())
    body = {k: v for k, v in row.items() if k != "file"}
    if image not in splits:
        return RECIPE.cell(image=image, inputs={"problem": "image_not_ingested", "row": body})
    if splits[image] != wanted:
        # A held-out image in the seed would leak the exam into the lessons.
        return RECIPE.cell(image=image, inputs={"problem": f"image_is_{splits[image]}", "row": body})
    return RECIPE.cell(image=image, inputs={"row": body})


def _item_row(item: Item, cell: Cell, run: str) -> dict[str, Any]:
    return {
        **item.model_dump(mode="json"), "item_id": item.item_id, "origin": Origin.HUMAN.value,
        "recipe": RECIPE.digest, "cell": cell.key, "run": run, "added_at": datetime.now(UTC),
    }  # fmt: skip
