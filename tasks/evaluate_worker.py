"""The worker of an exam: it is shown a picture and asked a question, and never sees the key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.infra.worker import Trouble
from medgr2.models import prompts
from medgr2.models.answer_forms import Answering, parse_answer
from medgr2.models.confidence import letter_chance
from medgr2.models.grey import GreyPictures
from medgr2.schemas.cells import Cell, Outcome, Recipe

if TYPE_CHECKING:
    from medgr2.models.engines.seam import Completion
    from medgr2.models.engines.whole import Replies


class EvaluateWorker:
    """Greedy answers, and some at temperature 1 from the same reading of the prompt; all read by the strict parser.
    An answer that can not be read is an answer: null."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        from medgr2.models.engines.opening import open_engine

        self._template = recipe.prompt
        self._longest = int(str(recipe.parameters["longest"]))
        self._style = Answering.model_validate({"style": recipe.parameters.get("style", "think")}).style
        self._sampled_at = float(str(recipe.parameters.get("sampled_at", 0.0)))
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)
        self._engine = open_engine(recipe, settings)
        self._grey = GreyPictures()

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        from medgr2.models.engines.seam import Request
        from medgr2.models.engines.whole import ask_all

        greedy = [
            Request(
                self._picture(cell),
                prompts.answering_text(self._template, cell.inputs["question"], cell.inputs["options"]),
                temperature=0.0,
                max_new_tokens=self._longest,
                weighed=True,
                sightless=not cell.image,
            )
            for cell in cells
        ]
        sampled = [
            replace(request, seeds=_seeds(cell), temperature=self._sampled_at, weighed=False)
            for cell, request in zip(cells, greedy, strict=True)
            if "samples" in cell.inputs
        ]
        replies = iter(ask_all(self._engine, [*greedy, *sampled]))
        firsts = [next(replies) for _ in cells]
        for cell, only in zip(cells, firsts, strict=True):
            drawn: Replies = next(replies) if "samples" in cell.inputs else []
            if isinstance(only, Trouble) or isinstance(drawn, Trouble):
                yield Outcome.failed(cell, next(one.reason for one in (only, drawn) if isinstance(one, Trouble)))
                continue
            (first,) = only
            letter = self._letter(cell, first)
            value: dict[str, Any] = {
                "answer": letter,
                "confidence": letter_chance(first.words, letter) if letter else None,
                "reply": first.text,
            }
            if "samples" in cell.inputs:
                value["sampled"] = [self._letter(cell, completion) for completion in drawn]
            yield Outcome.accepted(cell, value)

    def _letter(self, cell: Cell, completion: Completion) -> str | None:
        """None also of a reply that was cut short: nobody knows what it would have gone on to say."""
        options = len(cell.inputs["options"])
        return parse_answer(completion.text, options, self._style) if completion.finished else None

    def _picture(self, cell: Cell) -> Path | None:
        if not cell.image:
            return None
        path = self._images.path(cell.image)
        return self._grey.instead_of(path) if cell.inputs["blank"] else path


def _seeds(cell: Cell) -> tuple[int, ...]:
    return tuple((cell.seed << 16) + k for k in range(int(cell.inputs["samples"])))
