"""The generator: from an image and its private context to a draft, with the options in an order of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medgr2.models.drafts import UNSUPPORTED, read_draft
from medgr2.models.engines.seam import Completion, Conversation, Exchange, Request
from medgr2.models.facts import alludes, quotes
from medgr2.models.prompts import parse_draft
from medgr2.models.styles import Style
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.schemas.items import Draft
from medgr2.schemas.vocabulary import LETTERS


@dataclass(frozen=True, slots=True)
class Wish:
    """One draft that is wanted. The text holds the private context: it reaches the generator and nobody else."""

    image_id: str
    image: Callable[[], Path]
    """Where its bytes are; asked when the conversation begins, and not before."""
    text: str
    seed: int
    report: str = ""
    """As the text shows it."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a generator is asked, and how patiently."""

    style: Style
    temperature: float
    max_new_tokens: int
    repairs: int = 0
    repair: str = ""
    """What is said of a reply that cannot be used; names `reason`."""


@dataclass(frozen=True, slots=True)
class NoDraft:
    """Why there is none. The text itself is not kept: it may repeat the report."""

    reason: str
    of_the_reply: bool = True
    """False where nothing was asked, because the picture is not as it should be."""

    @property
    def final(self) -> bool:
        """The model has looked, and said or done what asking again would not change."""
        return self.reason in FINAL


FINAL = frozenset({UNSUPPORTED, "quotes_report", "alludes_to_report"})


def draft_conversation(wish: Wish, manner: Manner) -> Conversation[Draft | NoDraft]:
    """Ask; and ask again, with the reason, as often as the manner allows."""
    try:
        picture = wish.image()
    except NotFoundError:
        return NoDraft("image_missing", of_the_reply=False)
    except DataError:
        return NoDraft("image_damaged", of_the_reply=False)
    text, found = wish.text, UNSUPPORTED
    earlier: tuple[Exchange, ...] = ()
    for again in range(manner.repairs + 1):
        completion = yield Request(
            picture,
            text,
            seeds=(wish.seed + again,),
            temperature=manner.temperature,
            max_new_tokens=manner.max_new_tokens,
            earlier=earlier,
            form=manner.style.form,
        )
        draft = _read(completion, wish, manner.style)
        if isinstance(draft, Draft):
            return shuffle_options(draft, wish.image_id)
        found = draft
        if found == UNSUPPORTED:
            break
        earlier = (*earlier, Exchange(text, completion.text))
        text = manner.repair.format(reason=found)
    return NoDraft(found)


def _read(completion: Completion, wish: Wish, style: Style) -> Draft | str:
    if not completion.finished:
        return "truncated"
    if style.strict:
        return parse_draft(completion.text)
    draft = read_draft(completion.text)
    if isinstance(draft, str):
        return draft
    written = (draft.question, *draft.options, draft.rationale)
    if quotes(" ".join(written), wish.report):
        return "quotes_report"
    return "alludes_to_report" if any(alludes(one) for one in written) else draft


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
