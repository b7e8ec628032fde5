"""A driver for the kill tests of streamed stages: rows asked of a server through the product's HTTP engine.

python served_driver.py ROOT URL CELLS [calls=N] [since=NS]
Writes ROOT.json: the digest of what came of the cells, how many have an outcome without a gap, and the plan.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import ComputeSettings, GeneratorSettings, Settings, StorageSettings
from medgr2.models.engines.seam import Completion, Request
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.usage import Budget
from medgr2.tasks.stage import StageRequest, run_stage

IN_FLIGHT = 16
SERVER = 12
"""Requests at the server: the limit of the stage leaves room for outcomes that are being written."""


class Asking:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        from medgr2.models.engines.http import HttpEngine

        self._engine = HttpEngine(settings.generator, settings.generator.model)

    def __call__(self, feed: Iterable[Cell | None]) -> Iterator[Outcome]:
        asked: dict[str, Cell] = {}

        def conversations() -> Iterator[tuple[str, Generator[Request, Completion, str]] | None]:
            for cell in feed:
                if cell is None:
                    yield None
                else:
                    asked[cell.key] = cell
                    yield cell.key, question(cell)

        for held in self._engine.hold(conversations()):
            cell = asked.pop(held.name)
            if held.trouble is not None:
                outcome = Outcome.failed(cell, held.trouble.reason, held.trouble.detail)
            else:
                outcome = Outcome.accepted(cell, {"text": held.result})
            yield Outcome(outcome.key, outcome.verdict, outcome.value, outcome.reasons, outcome.detail, 1, held.usage)


def question(cell: Cell) -> Generator[Request, Completion, str]:
    completion = yield Request(image_path=None, text=f"Row {cell.inputs['n']}: ask about it.", seeds=(cell.seed,))
    return completion.text


def main() -> None:
    root, url, n, *rest = sys.argv[1:]
    more = dict(word.split("=") for word in rest)
    settings = Settings(
        storage=StorageSettings(root=root),
        compute=ComputeSettings(mode="inline", failure_limit=0),
        generator=GeneratorSettings(engine="openai", url=url, model="fake", in_flight=SERVER),
    )
    recipe = Recipe(stage="rows", code="1", model="served:fake", parameters={"engine": "openai"})
    result = run_stage(
        StageRequest(recipe=recipe, worker="served_driver:Asking", run="night", in_flight=IN_FLIGHT),
        [recipe.cell(inputs={"n": i}) for i in range(int(n))],
        settings=settings,
        store=FolderStore(root),
        budget=Budget(calls=int(more["calls"])) if "calls" in more else None,
        since=int(more["since"]) if "since" in more else None,
    )
    told = [result.digest, result.asked, result.report.plan.model_dump(), result.report.line()]
    Path(root + ".json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
