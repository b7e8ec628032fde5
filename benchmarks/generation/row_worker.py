"""The smallest worker that asks a server: a row's text in, the reply's text kept."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace

from medgr2.infra.settings import Settings
from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.seam import Completion, Request
from medgr2.schemas.cells import Cell, Outcome, Recipe

RECIPE = Recipe(stage="rows", code="1", model="served:fake", parameters={"engine": "openai"})


class RowWorker:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._engine = HttpEngine(settings.generator, recipe.model.removeprefix("served:"))

    def __call__(self, feed: Iterable[Cell | None]) -> Iterator[Outcome]:
        asked: dict[str, Cell] = {}

        def conversations() -> Iterator[tuple[str, Generator[Request, Completion, str]] | None]:
            for cell in feed:
                if cell is None:
                    yield None
                else:
                    asked[cell.key] = cell
                    yield cell.key, conversation(cell)

        for held in self._engine.hold(conversations()):
            cell = asked.pop(held.name)
            if held.trouble is not None:
                outcome = Outcome.failed(cell, held.trouble.reason, held.trouble.detail)
            else:
                outcome = Outcome.accepted(cell, {"text": held.result})
            yield replace(outcome, usage=held.usage)


def conversation(cell: Cell) -> Generator[Request, Completion, str]:
    completion = yield Request(None, cell.inputs["text"], seeds=(cell.seed,), max_new_tokens=256)
    return completion.text


class Finished:
    """Fills a journal: every cell is accepted, nobody is asked."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        pass

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        return [Outcome.accepted(cell, {"text": "a draft"}) for cell in cells]
