"""Generate: every image, question type and sample is a cell; its result is a draft or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from medgr2.infra.compute import Resources
from medgr2.infra.images import ImageStore
from medgr2.infra.journal import Journal
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.models.diversity import diversity
from medgr2.models.prompts import REPAIR, load_prompt
from medgr2.models.styles import STYLES, Style, prompt_of, style_for
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Draft, Item
from medgr2.schemas.parameters import EMBEDDED, GenerateParameters
from medgr2.schemas.reports import GenerateReport
from medgr2.schemas.vocabulary import Origin, Verdict
from medgr2.tasks.asking import Wanted, wanted
from medgr2.tasks.outdated import renew_contexts
from medgr2.tasks.stage import Announce, StageRequest, run_and_record

WORKER = "medgr2.tasks.generate:GenerateWorker"
BATCH = 32
VLLM_BATCH = 256
EMBEDDED_REPORT = 2000
"""Characters of a report that the embedded model is shown."""


def style_of(parameters: GenerateParameters, settings: Settings) -> Style:
    """A served model is never the embedded one: it is asked in words."""
    ours = settings.generator.engine != "openai"
    return style_for(parameters, base_is_embedded=ours and settings.models.base == EMBEDDED)


def recipe(model: str, parameters: GenerateParameters, settings: Settings) -> Recipe:
    """What the embedded model is asked in this process has the parameters that it always had."""
    style, kind, on_cpu = style_of(parameters, settings), settings.generator.engine, settings.models.device == "cpu"
    how: dict[str, Any] = {"temperature": parameters.temperature, "max_new_tokens": style.max_new_tokens}
    if kind == "transformers":
        how["dtype"] = "float64" if on_cpu else "bfloat16"
    elif kind == "vllm":
        how |= {"engine": kind, "dtype": "float32" if on_cpu else "auto", "structured": settings.generator.structured}
    else:
        how |= {"engine": kind, "structured": settings.generator.structured}
    if not style.strict:
        how |= {"style": style.name, "repairs": parameters.repairs}
        if parameters.repairs:
            how["repair"] = load_prompt(REPAIR)
    return Recipe(stage="generate", code="1", model=model, prompt=prompt_of(style), parameters=how)


def request_of(how: Recipe, settings: Settings, run: str) -> StageRequest:
    kind, calls = how.parameters.get("engine", "transformers"), 1 + int(str(how.parameters.get("repairs", 0)))
    if kind == "openai":
        from medgr2.infra.compute_stream import room_for

        return StageRequest(
            recipe=how, worker=WORKER, run=run, calls=calls, in_flight=room_for(settings.generator.in_flight)
        )
    gpus = 1 if settings.models.device == "cuda" else 0
    python = str(settings.generator.python or "") if kind == "vllm" else ""
    return StageRequest(
        recipe=how,
        worker=WORKER,
        run=run,
        calls=calls,
        batch_size=VLLM_BATCH if kind == "vllm" else BATCH,
        resources=Resources(gpus=gpus, python=python),
    )


class GenerateWorker:
    """Takes a list of cells or, where it waits for a server, a feed of them."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        from medgr2.models.engines.opening import open_engine
        from medgr2.models.generator import Manner

        how = recipe.parameters
        self._recipe = recipe
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)
        self._engine = open_engine(recipe, settings)
        self._manner = Manner(
            style=STYLES[str(how.get("style", EMBEDDED))],
            temperature=float(str(how["temperature"])),
            max_new_tokens=int(str(how["max_new_tokens"])),
            repairs=int(str(how.get("repairs", 0))),
            repair=str(how.get("repair", "")),
        )

    def __call__(self, cells: Iterable[Cell | None]) -> Iterator[Outcome]:
        from medgr2.models.generator import draft_conversation

        begun: dict[str, Cell] = {}

        def conversations() -> Iterator[Any]:
            for cell in cells:
                if cell is None:
                    yield None
                else:
                    begun[cell.key] = cell
                    yield cell.key, draft_conversation(self._wish(cell), self._manner)

        for held in self._engine.hold(conversations()):
            cell = begun.pop(held.name)
            if held.trouble is not None:
                outcome = Outcome.failed(cell, held.trouble.reason, held.trouble.detail)
            else:
                outcome = self._outcome(cell, held.result)
            yield replace(outcome, usage=held.usage)

    def _wish(self, cell: Cell) -> Any:
        from medgr2.models.generator import Wish
        from medgr2.models.prompts import generating_text

        told = cell.inputs
        if self._manner.style.strict:
            text = generating_text(self._recipe.prompt, told["question_type"], told["report"][:EMBEDDED_REPORT])
        else:
            text = self._recipe.prompt.format_map(told)
        return Wish(
            image_id=cell.image,
            image=lambda: self._images.path(cell.image),
            text=text,
            seed=cell.seed,
            report=str(told.get("report", "")),
        )

    def _outcome(self, cell: Cell, found: Any) -> Outcome:
        if isinstance(found, Draft):
            return Outcome.accepted(cell, found.model_dump(mode="json"))
        if found.of_the_reply and (found.final or self._engine.repeatable):
            return Outcome.rejected(cell, found.reason)
        return Outcome.failed(cell, found.reason)


def collect(
    cells: Iterable[Cell],
    outcomes: Mapping[str, Outcome],
    recipe: Recipe,
    run: str,
    *,
    prompt: str,
    contexts: Mapping[str, str],
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
                "prompt": prompt,
                "recipe": recipe.digest,
                "cell": cell.key,
                "run": run,
                "added_at": now,
                "context": contexts[cell.image],
            },
        )
    return rows


def asked_for(
    workspace: Workspace, parameters: GenerateParameters, images: Sequence[str], *, model: str, run: str
) -> tuple[StageRequest, Wanted]:
    """All that a night could ask, and how. Nothing is spent."""
    how, style = recipe(model, parameters, workspace.settings), style_of(parameters, workspace.settings)
    return request_of(how, workspace.settings, run), wanted(workspace.lake, how, style, parameters, images)


def generate(
    workspace: Workspace,
    parameters: GenerateParameters,
    images: Sequence[str],
    *,
    model: str,
    run: str,
    announce: Announce,
    upto: int | None = None,
    since: int | None = None,
) -> GenerateReport:
    """Ask for drafts about these images, or for the first `upto` of them, and keep the well-formed ones as items.
    `since` is when the night began, which its budget is for."""
    request, all_wanted = asked_for(workspace, parameters, images, model=model, run=run)
    result = run_and_record(
        request, all_wanted.cells[:upto], workspace, announce, budget=parameters.budget, since=since
    )
    cells = result.cells[: result.asked]
    rows = _rows(cells, result.outcomes, request, all_wanted, parameters, workspace)
    workspace.lake.append_new("items", list(rows.values()), key="item_id")
    renew_contexts(workspace.lake, {item_id: row["context"] for item_id, row in rows.items()})
    return GenerateReport(
        **{name: getattr(result.report, name) for name in type(result.report).model_fields},
        asked=result.asked,
        possible=len(all_wanted.cells),
        unsupported=dict(all_wanted.unsupported),
        diversity=diversity(
            map(item_of, rows.values()),
            all_wanted.modality,
            types=len(parameters.question_types),
            modalities=len(set(all_wanted.modality.values())),
        ),
    )


def drafted(
    workspace: Workspace,
    parameters: GenerateParameters,
    images: Sequence[str],
    *,
    model: str,
    run: str,
    asked: int | None = None,
) -> list[Item]:
    """The items that `generate` made of the same images, or of the first `asked` cells, in the order of their ids.
    Nothing is generated."""
    request, all_wanted = asked_for(workspace, parameters, images, model=model, run=run)
    cells = all_wanted.cells[:asked]
    outcomes = Journal(workspace.store, request.recipe.stage).outcomes([cell.key for cell in cells])
    if missing := sum(cell.key not in outcomes for cell in cells):
        raise DataError(
            f"{missing} of {len(cells)} drafts of {run} have not been asked for",
            where="journal/generate",
            kept="every finished draft",
            next_command="the same command again",
        )
    rows = _rows(cells, outcomes, request, all_wanted, parameters, workspace)
    return [item_of(rows[item_id]) for item_id in sorted(rows)]


def held_drafts(
    workspace: Workspace, parameters: GenerateParameters, request: StageRequest, all_wanted: Wanted, upto: int | None
) -> list[Item]:
    """The items that are there already of what `asked_for` names."""
    cells = all_wanted.cells[:upto]
    outcomes = Journal(workspace.store, request.recipe.stage).outcomes([cell.key for cell in cells])
    there = [cell for cell in cells if cell.key in outcomes]
    rows = _rows(there, outcomes, request, all_wanted, parameters, workspace)
    return [item_of(rows[item_id]) for item_id in sorted(rows)]


def _rows(
    cells: Iterable[Cell],
    outcomes: Mapping[str, Outcome],
    request: StageRequest,
    all_wanted: Wanted,
    parameters: GenerateParameters,
    workspace: Workspace,
) -> dict[str, dict[str, Any]]:
    prompt = style_of(parameters, workspace.settings).prompt
    return collect(cells, outcomes, request.recipe, request.run, prompt=prompt, contexts=all_wanted.contexts)


def item_of(row: Mapping[str, Any]) -> Item:
    """The item in a row of the table `items`."""
    return Item.model_validate({name: row[name] for name in Item.model_fields})
