"""What may be said in other words, and which words turn a medical text into its opposite."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

from medgr2.models.texts import plain, words
from medgr2.models.wording import in_case_of, put, tidied
from medgr2.schemas.vocabulary import Flaw

FOLDER = Path(__file__).with_name("word_lists")
FLIPS = (Flaw.LATERALITY, Flaw.NEGATION, Flaw.NUMBER, Flaw.OPPOSITE)
LIGHT = 3  # words a light paraphrase changes at most

_COUNTED = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ROMAN = ("i", "ii", "iii", "iv", "v")
# Not within a name (COVID-19, T2, HER2), nor the second number of a range.
_FIGURE = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)?(?![\w.,-]*\d)")
_STAGE = re.compile(rf"\b(?:grade|stage|type|class)\s+(?P<numeral>{'|'.join(_ROMAN)})\b", re.IGNORECASE)
# What is denied by a word that goes, and what is affirmed by a word that comes.
_DENIALS = tuple(
    (re.compile(pattern, re.IGNORECASE), said)
    for pattern, said in (
        (r"\bno (?!longer|more|less|matter|evidence|sign)", ""),
        (r"\bno (?=evidence of|signs? of)", ""),
        (r"\b(?:is|are|was|were) (?P<gone>not )(?!only|necessarily)", ""),
        (r"\b(?P<gone>without)\b", "with"),
        (r"\b(?:shows?|displays?|reveals?|demonstrates?) (?P<gone>(?:an? |the )?)(?!no\b|that\b|the\b)(?=\w)", "no "),
        (r"\bthere (?:is|are) (?P<gone>(?:an? )?)(?!no\b|not\b)(?=\w)", "no "),
        (r"\b(?:is|are|was|were) (?P<gone>)(?=(?:seen|shown|visible|noted|imaged|identified)\b)", "not "),
    )
)


@lru_cache(maxsize=1)
def _opposites() -> dict[str, Any]:
    lists: dict[str, Any] = json.loads((FOLDER / "opposites.json").read_text(encoding="utf-8"))
    return lists


@lru_cache(maxsize=3)
def synonyms(kind: str) -> dict[str, tuple[str, ...]]:
    """For each phrase its group. `words` may be exchanged anywhere, `labels` are names of one thing as whole answers,
    `parts` within longer ones."""
    groups = json.loads((FOLDER / "synonyms.json").read_text(encoding="utf-8"))[kind]
    return {phrase: tuple(group) for group in groups for phrase in group}


@lru_cache(maxsize=1)
def _turned() -> dict[Flaw, dict[str, tuple[str, ...]]]:
    """For each flip and word the words it may turn into."""
    found: dict[Flaw, dict[str, tuple[str, ...]]] = {}
    for flaw in (Flaw.LATERALITY, Flaw.NEGATION, Flaw.OPPOSITE):
        table = found.setdefault(flaw, {})
        for pair in _opposites()[str(flaw)]:
            for one, other in permutations(pair, 2):
                table[one] = (*table.get(one, ()), other)
    for one, other, stems in _opposites()["prefixes"]:
        for stem in stems:
            found[Flaw.OPPOSITE] |= {one + stem: (other + stem,), other + stem: (one + stem,)}
    found[Flaw.NUMBER] = {word: tuple(o for o in _COUNTED if o != word) for word in _COUNTED}
    return found


@lru_cache(maxsize=1)
def _guarded() -> frozenset[str]:
    turned = [word for table in _turned().values() for phrase in table for word in words(phrase)]
    return frozenset([*turned, *_opposites()["guarded"], *_ROMAN, "one"]) - {"well", "defined", "differentiated"}


def guarded(text: str) -> tuple[str, ...]:
    """The words of side, denial, number, degree, certainty and time, in their order. No rewording may touch them."""
    return tuple(w for w in words(text) if w in _guarded() or not w.isalpha() or w.startswith(("hypo", "hyper", "non")))


ANSWERS = ("words", "labels", "parts")
_ARTICLES = ("a", "an", "the")


@lru_cache(maxsize=65536)
def same_words(text: str, kinds: tuple[str, ...] = ("words",)) -> tuple[str, ...]:
    """The words of the text, each vetted synonym as the first of its group. Articles do not count."""
    said = tuple(word for word in words(text) if word not in _ARTICLES)
    for place, kind in enumerate(kinds):
        said = tuple(_as_first(said, _firsts(kind, kinds[:place])))
    return said


@lru_cache(maxsize=8)
def _firsts(kind: str, before: tuple[str, ...]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """For each phrase the first of its group, both as the kinds before leave them."""
    return {same_words(phrase, before): same_words(group[0], before) for phrase, group in synonyms(kind).items()}


def changes_meaning(before: str, after: str) -> bool:
    """Whether `after` could say another thing. Only vetted rewording is known not to: whatever else differs does."""
    return guarded(before) != guarded(after) or same_words(before) != same_words(after)


@lru_cache(maxsize=65536)
def same_answer(one: str, other: str) -> bool:
    """Whether two answers may both be true: synonyms, or one a wider name of the other ('lung', 'left lung')."""
    a, b = (set(same_words(text, ANSWERS)) for text in (one, other))
    return a == b or ((a < b or b < a) and not (a ^ b) & _DENYING)


_DENYING = frozenset(("no", "not", "non", "without", "free"))


def synonyms_of(answer: str) -> tuple[str, ...]:
    """Other names of the whole answer, or of a part of it."""
    labels, whole = synonyms("labels"), plain(answer)
    if whole in labels:
        return tuple(dict.fromkeys(in_case_of(answer, other) for other in labels[whole] if other != whole))
    new = (
        answer[: match.start()] + in_case_of(match[0], other) + answer[match.end() :]
        for match in _phrases("parts").finditer(answer)
        for other in synonyms("parts")[plain(match[0])]
        if other != plain(match[0])
    )
    return tuple(dict.fromkeys(name for name in new if same_words(name, ANSWERS) == same_words(answer, ANSWERS)))


def paraphrase(text: str, rng: Random, keep: Sequence[str] = ()) -> str | None:
    """The same said a little differently. Mentions of `keep` stay, word for word."""
    table = synonyms("words")
    kept = [match.span() for phrase in keep for match in mention(phrase).finditer(text)]
    found = [
        match
        for match in _phrases("words").finditer(text)
        if len(table[plain(match[0])]) > 1 and not any(a < match.end() and match.start() < b for a, b in kept)
    ]
    chosen = sorted(rng.sample(found, min(len(found), LIGHT)), key=lambda match: -match.start())
    new = text
    for match in chosen:
        other = rng.choice([o for o in table[plain(match[0])] if o != plain(match[0])])
        new = put(new, *match.span(), in_case_of(match[0], other))
    return None if new == text or changes_meaning(text, new) else new


def flips(text: str, flaw: Flaw) -> tuple[str, ...]:
    """The text with one word of this kind turned into its opposite or into another number: every way of it."""
    fixed = [match.span() for phrase in _opposites()["fixed"] for match in mention(phrase).finditer(text)]
    edits = (edit for edit in _edits(text, flaw) if not any(a < edit[1] and edit[0] < b for a, b in fixed))
    made = (tidied(text, put(text, start, end, new)) for start, end, new in edits)
    return tuple(dict.fromkeys(new for new in made if new and guarded(new) != guarded(text)))


@lru_cache(maxsize=65536)
def mention(phrase: str) -> re.Pattern[str]:
    """The phrase as whole words, in any case and with any punctuation between."""
    said = r"[\W_]*".join(map(re.escape, words(phrase))) or r"(?!)"
    return re.compile(rf"(?<!\w){said}(?!\w)", re.IGNORECASE)


def _edits(text: str, flaw: Flaw) -> Iterator[tuple[int, int, str]]:
    table = _turned()[flaw]
    for match in _any_of(flaw).finditer(text):
        before, after = words(text[: match.start()])[-3:], words(text[match.end() :])[:2]
        if flaw is not Flaw.NEGATION and _DENYING.intersection(before):
            continue  # what is denied may be false either way
        for other in table[match[0].casefold()]:
            if other not in (*before, *after):  # 'left and right' has no opposite
                yield *match.span(), in_case_of(match[0], other)
    if flaw is Flaw.NUMBER:
        for match in _FIGURE.finditer(text):
            for other in _other_figures(match[0]):
                yield *match.span(), other
        for match in _STAGE.finditer(text):
            said = match["numeral"]
            for numeral in (n for n in _ROMAN if n != said.casefold()):
                yield *match.span("numeral"), numeral.upper() if said.isupper() else numeral
    if flaw is Flaw.NEGATION:
        for pattern, said in _DENIALS:
            for match in pattern.finditer(text):
                yield *(match.span("gone") if "gone" in pattern.groupindex else match.span()), said


def _other_figures(figure: str) -> list[str]:
    """Far enough from the figure that no rounding explains it."""
    mark = "," if "," in figure else "."
    places = len(figure.partition(mark)[2])
    value = float(figure.replace(",", "."))
    others = [value * 2, value / 2 if places or value % 2 == 0 else value * 3, *([value + 3] if value < 10 else [])]
    return [f"{other:.{places}f}".replace(".", mark) for other in others if other != value]


def _as_first(said: Sequence[str], firsts: dict[tuple[str, ...], tuple[str, ...]]) -> Iterator[str]:
    longest = max(map(len, firsts))
    at = 0
    while at < len(said):
        for length in range(min(longest, len(said) - at), 0, -1):
            first = firsts.get(tuple(said[at : at + length]))
            if first is not None:
                yield from first
                at += length
                break
        else:
            yield said[at]
            at += 1


def _alternation(phrases: Iterable[str], gap: str) -> re.Pattern[str]:
    ordered = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    either = "|".join(gap.join(re.escape(word) for word in phrase.split()) for phrase in ordered)
    return re.compile(rf"(?<!\w)(?:{either})(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=3)
def _phrases(kind: str) -> re.Pattern[str]:
    return _alternation(synonyms(kind), r"[\W_]+")


@lru_cache(maxsize=4)
def _any_of(flaw: Flaw) -> re.Pattern[str]:
    return _alternation(_turned()[flaw], r" ")
