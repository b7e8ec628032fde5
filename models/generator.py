"""The generator: from an image and its private context to a draft, with the options in an order of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medgr2.models.engines.seam import Request
from medgr2.models.engines.transformers import TransformersEngine
from medgr2.models.prompts import generating_text, parse_draft
from medgr2.schemas.digest import digest_of
from medgr2.schemas.items import Draft
from medgr2.schemas.vocabulary import LETTERS

REPORT_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Wish:
    """One draft that is wanted. The report is private: it reaches this prompt and no other."""

    image_id: str
    image_path: Path
    question_type: str
    report: str
    seed: int


def write_drafts(
    engine: TransformersEngine, prompt: str, wishes: Sequence[Wish], *, temperature: float, max_new_tokens: int
) -> list[Draft | str]:
    """For each wish its draft, or the code of the reason why the text was none."""
    requests = [
        Request(
            wish.image_path,
            generating_text(prompt, wish.question_type, wish.report[:REPORT_CHARACTERS]),
            seeds=(wish.seed,),
            temperature=temperature,
            max_new_tokens=max_new_tokens,
        )
        for wish in wishes
    ]
    drafts: list[Draft | str] = []
    for wish, (completion,) in zip(wishes, engine.complete(requests), strict=True):
        draft = parse_draft(completion.text) if completion.finished else "truncated"
        drafts.append(shuffle_options(draft, wish.image_id) if isinstance(draft, Draft) else draft)
    return drafts


def shuffle_options(draft: Draft, image_id: str) -> Draft:
    """Options in the order of their hashes: letters come out even whatever habit the generator has.

    The order depends on content alone, so the same question drafted twice is still the same item. Done before
    the item has an id; a rationale that speaks of letters is refused by a gate instead of being rewritten.
    """

    def place(index: int) -> tuple[str, int]:
        return digest_of([image_id, draft.question, draft.options[index]]), index

    order = sorted(range(len(draft.options)), key=place)
    key = LETTERS.index(draft.answer)
    return draft.model_copy(
        update={"options": tuple(draft.options[i] for i in order), "answer": LETTERS[order.index(key)]}
    )
