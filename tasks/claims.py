"""Items as the claims that judges are shown: what of an item a cell holds, and the claim that is made of it again."""

from __future__ import annotations

from typing import Any

from medgr2.infra.images import ImageStore
from medgr2.models.judging import Claim
from medgr2.schemas.cells import Cell
from medgr2.schemas.items import Item

FIELDS = ("question", "options", "answer", "rationale")


def claim_inputs(item: Item) -> dict[str, Any]:
    return item.model_dump(mode="json", include={*FIELDS})


def claim_of(cell: Cell, images: ImageStore) -> Claim:
    return Claim(
        image_path=images.path(cell.image),
        question=str(cell.inputs["question"]),
        options=tuple(cell.inputs["options"]),
        answer=str(cell.inputs["answer"]),
        rationale=str(cell.inputs["rationale"]),
    )


def claim_about(item: Item, images: ImageStore) -> Claim:
    return Claim(images.path(item.image_id), item.question, item.options, item.answer, item.rationale)
