"""The verifier's look at items: a model of another family, behind a server, says how surely each of them holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.models.judging import Claim
from medgr2.models.prompts import load_prompt
from medgr2.models.verifier import LIKELY, MAX_NEW_TOKENS, NO_VERDICT, VERIFY
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.items import Item
from medgr2.tasks.stage import StageRequest

STAGE = "score-verifier"
CODE = "1"
SIGNALS = ("verifier",)


def recipe(verifier: str) -> Recipe:
    how: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": MAX_NEW_TOKENS, "likely": LIKELY}
    return Recipe(stage=STAGE, code=CODE, model=verifier, prompt=load_prompt(VERIFY), parameters=how)


def asked_for(
    verifier: str, exams: Iterable[tuple[str, Item]], *, run: str, in_flight: int
) -> tuple[StageRequest, list[Cell]]:
    from medgr2.infra.compute_stream import room_for

    how, fields = recipe(verifier), {"question", "options", "answer", "rationale"}
    cells = [
        how.cell(image=item.image_id, parents=(item_id,), inputs=item.model_dump(mode="json", include=fields))
        for item_id, item in exams
    ]
    worker = "medgr2.tasks.score_verifier:VerifierWorker"
    return StageRequest(recipe=how, worker=worker, run=run, in_flight=room_for(in_flight)), cells


class VerifierWorker:
    """Takes a feed of cells, since it waits for a server."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        from medgr2.models.engines.opening import open_served

        self._recipe = recipe
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)
        self._engine = open_served(recipe, settings.verifier, slow_pictures=settings.storage.is_s3)

    def __call__(self, cells: Iterable[Cell | None]) -> Iterator[Outcome]:
        begun: dict[str, Cell] = {}

        def conversations() -> Iterator[Any]:
            for cell in cells:
                if cell is None:
                    yield None
                else:
                    begun[cell.key] = cell
                    yield cell.key, self._conversation(cell)

        for held in self._engine.hold(conversations()):
            cell = begun.pop(held.name)
            if held.trouble is not None:
                outcome = Outcome.failed(cell, held.trouble.reason, held.trouble.detail)
            elif isinstance(held.result, float):
                outcome = Outcome.accepted(cell, {"verifier": held.result})
            elif held.result == NO_VERDICT:
                outcome = Outcome.rejected(cell, NO_VERDICT)  # asked at temperature 0, it would say the same again
            else:
                outcome = Outcome.failed(cell, str(held.result))
            yield replace(outcome, usage=held.usage)

    def _conversation(self, cell: Cell) -> Any:
        from medgr2.models.verifier import verify_conversation

        return verify_conversation(self._recipe.prompt, lambda: self._claim(cell), cell.seed)

    def _claim(self, cell: Cell) -> Claim:
        return Claim(
            image_path=self._images.path(cell.image),
            question=str(cell.inputs["question"]),
            options=tuple(cell.inputs["options"]),
            answer=str(cell.inputs["answer"]),
            rationale=str(cell.inputs["rationale"]),
        )
