"""The verifier's look at items: a model of another family, behind a server, says how surely each of them holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.models.prompts import load_prompt
from medgr2.models.verifier import LIKELY, MAX_NEW_TOKENS, NO_VERDICT, VERIFY
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.items import Item
from medgr2.tasks.claims import claim_inputs, claim_of
from medgr2.tasks.stage import StageRequest
from medgr2.tasks.talks import talk

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

    how = recipe(verifier)
    cells = [how.cell(image=item.image_id, parents=(item_id,), inputs=claim_inputs(item)) for item_id, item in exams]
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
        return talk(self._engine, cells, self._conversation, self._outcome)

    def _conversation(self, cell: Cell) -> Any:
        from medgr2.models.verifier import verify_conversation

        return verify_conversation(self._recipe.prompt, lambda: claim_of(cell, self._images), cell.seed)

    @staticmethod
    def _outcome(cell: Cell, found: Any) -> Outcome:
        if isinstance(found, float):
            return Outcome.accepted(cell, {"verifier": found})
        if found == NO_VERDICT:
            return Outcome.rejected(cell, NO_VERDICT)  # asked at temperature 0, it would say the same again
        return Outcome.failed(cell, str(found))
