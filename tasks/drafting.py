"""Drafting: how drafts are asked of whichever engine is configured, and the worker that asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from medgr2.infra.compute import Resources
from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.models.prompts import REPAIR, load_prompt
from medgr2.models.styles import STYLES, Style, prompt_of, style_for
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.items import Draft
from medgr2.schemas.parameters import EMBEDDED, GenerateParameters
from medgr2.tasks.stage_request import StageRequest
from medgr2.tasks.talks import talk

CODE = "1"
WORKER = "medgr2.tasks.drafting:GenerateWorker"
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
    return Recipe(stage="generate", code=CODE, model=model, prompt=prompt_of(style), parameters=how)


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

        return talk(self._engine, cells, lambda cell: draft_conversation(self._wish(cell), self._manner), self._outcome)

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
