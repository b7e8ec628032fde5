"""Generate: every image, question type and sample is a cell; its result is a draft or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from medgr2.infra.images import ImageStore
from medgr2.infra.journal import Journal
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.models.prompts import GENERATE_DIRECT, load_prompt
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Draft, Item
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.reports import StageReport
from medgr2.schemas.vocabulary import Origin, QuestionType, Split, Verdict
from medgr2.tasks.stage import Announce, StageRequest, run_and_record

MAX_NEW_TOKENS = 128
BATCH = 32


def recipe(model: str, parameters: GenerateParameters) -> Recipe:
    return Recipe(
        stage="generate",
        code="1",
        model=model,
        prompt=load_prompt(GENERATE_DIRECT),
        parameters={"temperature": parameters.temperature, "max_new_tokens": MAX_NEW_TOKENS, "dtype": "float64"},
    )


class GenerateWorker:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        from medgr2.models.engines.transformers import load_engine
        from medgr2.models.model_ref import materialise

        self._recipe = recipe
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)
        self._engine = load_engine(materialise(recipe.model, settings).folder, dtype=str(recipe.parameters["dtype"]))

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        from medgr2.models.generator import Wish, write_drafts

        wishes = [
            Wish(
                image_id=cell.image,
                image_path=self._images.path(cell.image),
                question_type=str(cell.inputs["question_type"]),
                report=str(cell.inputs["report"]),
                seed=cell.seed,
            )
            for cell in cells
        ]
        drafts = write_drafts(
            self._engine,
            self._recipe.prompt,
            wishes,
            temperature=float(str(self._recipe.parameters["temperature"])),
            max_new_tokens=int(str(self._recipe.parameters["max_new_tokens"])),
        )
        for cell, draft in zip(cells, drafts, strict=True):
            if isinstance(draft, Draft):
                yield Outcome.accepted(cell, draft.model_dump(mode="json"))
            else:
                # The text itself is not kept: it may repeat the report.
                yield Outcome.rejected(cell, draft)


def cells(
    recipe: Recipe, images: Iterable[Mapping[str, Any]], *, question_types: Sequence[QuestionType], samples: int
) -> Iterator[Cell]:
    """In the order of image ids. Held-out images are never asked about, whoever passes them in."""
    for image in sorted(images, key=lambda row: str(row["image_id"])):
        if image["split"] != Split.TRAIN:
            continue
        for question_type in question_types:
            for sample in range(samples):
                inputs = {"question_type": question_type.value, "report": image["report"] or "", "sample": sample}
                yield recipe.cell(image=image["image_id"], inputs=inputs)


def collect(
    cells: Iterable[Cell], outcomes: Mapping[str, Outcome], recipe: Recipe, run: str
) -> dict[str, dict[str, Any]]:
    """Rows of `items` by id, from the drafts. Cells that wrote the same item share the first one's row."""
    rows: dict[str, dict[str, Any]] = {}
    now = datetime.now(UTC)
    for cell in cells:
        outcome = outcomes[cell.key]
        if outcome.verdict is not Verdict.ACCEPTED:
            continue
        item = Item.model_validate(
            {**(outcome.value or {}), "image_id": cell.image, "question_type": cell.inputs["question_type"]}
        )
        rows.setdefault(
            item.item_id,
            {
                **item.model_dump(mode="json"),
                "item_id": item.item_id,
                "origin": Origin.GENERATED.value,
                "generator": recipe.model,
                "prompt": GENERATE_DIRECT,
                "recipe": recipe.digest,
                "cell": cell.key,
                "run": run,
                "added_at": now,
            },
        )
    return rows


def generate(
    workspace: Workspace,
    parameters: GenerateParameters,
    images: Sequence[str],
    *,
    model: str,
    run: str,
    announce: Announce,
) -> StageReport:
    """Ask for drafts about these images and keep the well-formed ones as items."""
    how = recipe(model, parameters)
    request = StageRequest(recipe=how, worker="medgr2.tasks.generate:GenerateWorker", batch_size=BATCH, run=run)
    result = run_and_record(request, _wanted(workspace, parameters, how, images), workspace, announce)
    rows = collect(result.cells, result.outcomes, how, run)
    workspace.lake.append_new("items", list(rows.values()), key="item_id")
    return result.report


def drafted(
    workspace: Workspace, parameters: GenerateParameters, images: Sequence[str], *, model: str, run: str
) -> list[Item]:
    """The items that `generate` made of the same images, in the order of their ids. Nothing is generated."""
    how = recipe(model, parameters)
    wanted = _wanted(workspace, parameters, how, images)
    outcomes = Journal(workspace.store, how.stage).outcomes([cell.key for cell in wanted])
    if missing := sum(cell.key not in outcomes for cell in wanted):
        raise DataError(
            f"{missing} of {len(wanted)} drafts of {run} have not been asked for",
            where="journal/generate",
            kept="every finished draft",
            next_command="the same command again",
        )
    rows = collect(wanted, outcomes, how, run)
    return [item_of(rows[item_id]) for item_id in sorted(rows)]


def _wanted(workspace: Workspace, parameters: GenerateParameters, how: Recipe, images: Sequence[str]) -> list[Cell]:
    stored = workspace.lake.read("images", columns=["image_id", "split", "report"], where={"image_id": list(images)})
    return list(cells(how, stored.to_pylist(), question_types=parameters.question_types, samples=parameters.samples))


def item_of(row: Mapping[str, Any]) -> Item:
    """The item in a row of the table `items`."""
    return Item.model_validate({name: row[name] for name in Item.model_fields})
