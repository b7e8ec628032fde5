"""Gates: what an item may not be, whatever a model thinks of it. Each returns the code of its reason, or None."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from medgr2.models.shelf import Shelf
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


def no_evaluation_overlap(item: Item, context: GateContext) -> str | None:
    return "overlaps_evaluation" if context.evaluation.twin(item) else None


def no_duplicate(item: Item, context: GateContext) -> str | None:
    if context.history.twin(item):
        return "duplicate_of_history"
    return "duplicate_of_night" if context.night.twin(item) else None


GATES: tuple[Gate, ...] = (
    markup, option_count, options_distinct, options_stand_alone, key_length, no_leak, rationale_entails,
    rationale_without_letters, no_identifiers, not_heldout, no_evaluation_overlap,
)  # fmt: skip


def sift(items: Iterable[Item], context: GateContext) -> dict[str, tuple[str, ...]]:
    """For each item the reasons against it; none means that it may be scored.

    Items are taken in the order of their ids: which of two twins stays may not depend on who was first. An item
    that is refused for another reason hides no twin.
    """
    judged: dict[str, tuple[str, ...]] = {}
    for item_id, item in sorted((item.item_id, item) for item in items):
        reasons = tuple(reason for gate in GATES if (reason := gate(item, context)))
        if not reasons and (reason := no_duplicate(item, context)):
            reasons = (reason,)
        if not reasons:
            context.night.add(item)
        judged[item_id] = reasons
    return judged


def _key(item: Item) -> int:
    return item.options.index(item.key_text)


def _texts(item: Item) -> tuple[str, ...]:
    return (item.question, *item.options, item.rationale)
