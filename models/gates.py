"""Gates: what an item may not be, whatever a model thinks of it. Each returns the code of its reason, or None."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from medgr2.models.look_alikes import LookAlikes
from medgr2.models.shelf import Shelf
from medgr2.models.text_neighbours import TextNeighbours, as_a_whole, asked_and_told
from medgr2.models.texts import named, plain, words
from medgr2.schemas.items import Item

LENGTH_RATIO = 1.6
LENGTH_SLACK = 16


@dataclass(frozen=True)
class GateContext:
    """What an item is compared with."""

    heldout: frozenset[str] = frozenset()
    evaluation: Shelf = field(default_factory=Shelf)
    history: Shelf = field(default_factory=Shelf)
    night: Shelf = field(default_factory=Shelf)
    evaluation_texts: TextNeighbours = field(default_factory=TextNeighbours)
    """Of `asked_and_told`."""
    history_texts: TextNeighbours = field(default_factory=TextNeighbours)
    """Of `as_a_whole`."""
    images: LookAlikes = field(default_factory=LookAlikes)
    unread: frozenset[str] = frozenset()
    """Evaluation sets that are there and could not be read: nothing is known to be apart from them."""


Gate = Callable[[Item, GateContext], str | None]

_MARKUP = re.compile(r"</?(?:think|answer|image|s)\b|<\|", re.IGNORECASE)
_LETTER = re.compile(
    r"\b(?i:options?|choices?|letters?|answers?(?:\s+is)?|distractors?)\s*[:(]?\s*[A-H]\b(?!-)|\([A-H]\)"
)
_COMPOSITE = re.compile(
    r"\b(?:all|none|any|some|both|neither|either)\s+of\s+(?:the\s+)?(?:above|below|these|those|them|others?)\b"
    r"|^\s*(?:both|neither|either)?\s*\(?[A-H]\)?\s*(?:and|or|nor|&)\s*\(?[A-H]\)?\s*$",
    re.IGNORECASE,
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_IDENTIFIERS = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        (r"[\w.+-]+@[\w-]+\.[\w.]+", 0),
        (r"\b(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}\b|\b\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)?\d\d\b", 0),
        (rf"\b\d{{1,2}}(?:st|nd|rd|th)?\s+{_MONTH}\.?,?\s+(?:19|20)\d\d\b", re.IGNORECASE),
        (rf"\b{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+(?:19|20)\d\d\b", re.IGNORECASE),
        (r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau)\b\.?\s+[A-Z]\w+", 0),
        (r"\b(?i:patient|name|pt)\s*(?::|\bis\b|\bnamed\b)\s*[A-Z]\w+\s+[A-Z]\w+", 0),
        (r"\b(?:patient name|name)\s*:\s*\w+", re.IGNORECASE),
        (r"\b(?:mrn|medical record|accession|patient id|pid|nhs|ssn|dob|date of birth)\b", re.IGNORECASE),
        (r"(?<![\d.])\d{6,}(?![\d.])|\b\d{3}-\d{2}-\d{4}\b|\+\d[\d ()-]{7,}\d", 0),
        (r"\bhttps?://", re.IGNORECASE),
    )
)


def markup(item: Item, _: GateContext) -> str | None:
    """Tags and control characters would be read as structure by whoever trains on the item."""
    for text in _texts(item):
        if _MARKUP.search(text) or any(unicodedata.category(c) in ("Cc", "Cf", "Co") and c != "\n" for c in text):
            return "markup"
    return None


def option_count(item: Item, _: GateContext) -> str | None:
    return None if 4 <= len(item.options) <= 5 else "option_count"


def options_distinct(item: Item, _: GateContext) -> str | None:
    """Also means that the key equals one option only. An option of punctuation alone is the same as none."""
    distinct = {plain(option) for option in item.options}
    return "options_alike" if len(distinct) < len(item.options) or "" in distinct else None


def options_stand_alone(item: Item, _: GateContext) -> str | None:
    """'All of the above' or 'A and C' speak of an order that is shuffled."""
    return "option_refers_to_others" if any(_COMPOSITE.search(option) for option in item.options) else None


def key_length(item: Item, _: GateContext) -> str | None:
    """A key much longer than every distractor gives itself away. The slack leaves plain labels alone:
    'Fundus Photography' beside 'CT', 'MRI' and 'OCT' is what the modalities are called, not a hint."""
    key = len(item.key_text)
    longest = max((len(option) for option in item.options if option != item.key_text), default=key)
    return "key_stands_out" if key > LENGTH_RATIO * longest and key - longest >= LENGTH_SLACK else None


def no_leak(item: Item, _: GateContext) -> str | None:
    """The stem names the key and no other option. 'How severe is it?' asks for a degree and names none."""
    stem = list(words(item.question))
    asked = [word for before, word in zip(["", *stem], stem, strict=False) if before != "how"]
    told = named(" ".join(asked), item.options)
    return "stem_names_key" if told == {_key(item)} else None


def rationale_entails(item: Item, _: GateContext) -> str | None:
    told = named(item.rationale, item.options)
    if _key(item) in told:
        return None
    return "rationale_names_other" if told else "rationale_misses_key"


def rationale_without_letters(item: Item, _: GateContext) -> str | None:
    return "rationale_names_letter" if _LETTER.search(item.rationale) else None


def no_identifiers(item: Item, _: GateContext) -> str | None:
    return "identifier" if any(p.search(text) for p in _IDENTIFIERS for text in _texts(item)) else None


def not_heldout(item: Item, context: GateContext) -> str | None:
    return "heldout_image" if item.image_id in context.heldout else None


def evaluation_read(_: Item, context: GateContext) -> str | None:
    return "evaluation_unread" if context.unread else None


def no_evaluation_picture(item: Item, context: GateContext) -> str | None:
    """An image that shows what an evaluation image shows, re-encoded, cropped a little, mirrored or turned."""
    return "looks_like_evaluation" if item.image_id in context.images.of_evaluation else None


def no_evaluation_overlap(item: Item, context: GateContext) -> str | None:
    """Nearly its question about the same picture; or its long and specific text, about whatever picture."""
    if context.evaluation.twin(item, context.images.views(item.image_id)):
        return "overlaps_evaluation"
    texts = context.evaluation_texts
    return "overlaps_evaluation" if any(texts.twin(text) for text in asked_and_told(item)) else None


def no_duplicate_of_history(item: Item, context: GateContext) -> str | None:
    if context.history.twin(item, context.images.views(item.image_id)):
        return "duplicate_of_history"
    texts = context.history_texts
    return "duplicate_of_history" if any(texts.twin(text) for text in as_a_whole(item)) else None


def no_duplicate_of_night(item: Item, context: GateContext, tonight: TextNeighbours) -> str | None:
    if context.night.twin(item, context.images.views(item.image_id)):
        return "duplicate_of_night"
    return "duplicate_of_night" if any(tonight.twin(text) for text in as_a_whole(item)) else None


GATES: tuple[Gate, ...] = (
    markup, option_count, options_distinct, options_stand_alone, key_length, no_leak, rationale_entails,
    rationale_without_letters, no_identifiers, not_heldout, evaluation_read, no_evaluation_picture,
    no_evaluation_overlap,
)  # fmt: skip


def sift(items: Iterable[Item], context: GateContext) -> dict[str, tuple[str, ...]]:
    """For each item the reasons against it; none means that it may be scored.

    Items are taken in the order of their ids: which of two twins stays may not depend on who was first. An item
    that is refused for another reason hides no twin.
    """
    judged: dict[str, tuple[str, ...]] = {}
    drafts = dict(sorted((item.item_id, item) for item in items))
    tonight = TextNeighbours(
        (text for item in drafts.values() for text in as_a_whole(item)), like=context.history_texts, shown=False
    )
    for number, (item_id, item) in enumerate(drafts.items()):
        reasons = tuple(reason for gate in GATES if (reason := gate(item, context)))
        if not reasons:
            twin = no_duplicate_of_history(item, context) or no_duplicate_of_night(item, context, tonight)
            reasons = (twin,) if twin else ()
        if not reasons:
            context.night.add(item)
            tonight.show(number)
        judged[item_id] = reasons
    return judged


def _key(item: Item) -> int:
    return item.options.index(item.key_text)


def _texts(item: Item) -> tuple[str, ...]:
    return (item.question, *item.options, item.rationale)
