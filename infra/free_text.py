"""Reports without people in them: identifiers become typed placeholders, medicine stays."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from medgr2.infra.free_text_terms import COMMON, EPONYM_NOUN, EPONYMS, GENERIC_PLACES, NOT_NAMES, RULES
from medgr2.infra.hidden import hidden
from medgr2.schemas.errors import MissingExtraError, SettingsError

_ORDER = ("EMAIL", "URL", "DATE", "PHONE", "ID", "AGE", "PLACE", "NAME")
"""Of two kinds for the same place, the earlier one is told."""
_LIBRARY_KINDS = {
    "PHONE_NUMBER": "PHONE",
    "IP_ADDRESS": "ID",
    "IBAN_CODE": "ID",
    "CREDIT_CARD": "ID",
    "PERSON": "NAME",
    "LOCATION": "PLACE",
}
_SURE = 0.4
"""The library's own lowest score for a number that is a valid telephone number somewhere."""


class _Span(NamedTuple):
    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Scrubbed:
    text: str
    found: Counter[str] = field(default_factory=Counter)
    """How many of each kind were replaced: counts, never values."""


def available() -> bool:
    return importlib.util.find_spec("presidio_analyzer") is not None


class Scrubber:
    """One per process. `names` are people of the house, met in any report; `model` is an installed spaCy pipeline that
    also looks for people and places without a cue."""

    def __init__(self, names: Iterable[str] = (), model: str | None = None) -> None:
        if not available():
            raise MissingExtraError(
                "Scrubbing free-text reports needs a recogniser that is not installed.",
                where="presidio-analyzer",
                next_command="pip install 'medgr2[phi]'  or ingest without the report column",
            )
        self._names = tuple(names)
        self._model = model
        if model is not None and not (
            importlib.util.find_spec(model) if model.isidentifier() else Path(model).is_dir()
        ):
            raise SettingsError(
                f"The spaCy pipeline {model} is not installed, and nothing is downloaded while data are taken in.",
                next_command="install its wheel, give the folder it lies in, or go without",
            )

    def scrub(self, text: str, known: Sequence[str] = ()) -> Scrubbed:
        """`known` are the names and ids of the patient whose record this is, as they stand in it."""
        if not text.strip():
            return Scrubbed(text)
        spans = [*self._known(text, (*self._names, *known)), *self._ruled(text), *self._recognised(text)]
        spans += self._met_again(text, spans)
        found: Counter[str] = Counter()
        parts, at = [], 0
        for span in _merged(spans):
            parts += [text[at : span.start], f"[{span.kind}]"]
            found[span.kind] += 1
            at = span.end
        return Scrubbed("".join([*parts, text[at:]]), found)

    def _known(self, text: str, known: Sequence[str]) -> list[_Span]:
        import regex

        spans = []
        for value in {part for whole in known for part in (whole.strip(), *regex.split(r"[\s^=,;]+", whole))}:
            digits = any(letter.isdigit() for letter in value)
            if len(value) < (3 if digits else 2):
                continue
            plain = not digits and value.casefold() in COMMON
            expression = regex.escape(value)
            if plain:
                expression = _capitalised(value)
            elif len(value) > 2:  # Two letters are a syllable of everything: they count as written.
                expression = f"(?i:{expression})"
            expression = _word(expression)
            for match in regex.finditer(expression, text):
                spans.append(_Span(match.start(), match.end(), "ID" if digits else "NAME"))
        return spans

    def _ruled(self, text: str) -> list[_Span]:
        spans = []
        for kind, recogniser in self._rules:
            for result in recogniser.analyze(text, [kind]):
                span = _trimmed(text, _Span(result.start, result.end, kind))
                if span is not None:
                    spans.append(span)
        return spans

    def _recognised(self, text: str) -> list[_Span]:
        results = [result for recogniser in self._library for result in recogniser.analyze(text, [])]
        if self._model is not None:
            artifacts = self._pipeline.process_text(text, "en")
            results += self._people.analyze(text, ["PERSON", "LOCATION"], artifacts)
        spans = (
            _Span(result.start, result.end, _LIBRARY_KINDS[result.entity_type])
            for result in results
            if result.entity_type in _LIBRARY_KINDS and result.score >= _SURE
        )
        return [kept for kept in (_trimmed(text, span, cue=False) for span in spans) if kept is not None]

    def _met_again(self, text: str, spans: Sequence[_Span]) -> list[_Span]:
        """A name once found is a name wherever it stands with a capital, unless it is a disease."""
        import regex

        words = {
            word
            for span in spans
            if span.kind == "NAME"
            for word in regex.findall(r"\p{Lu}[\p{L}'\u2019\-]{2,}", text[span.start : span.end])
        }
        again = []
        for word in sorted(words - {word for word in words if word.casefold() in EPONYMS | NOT_NAMES}):
            for match in regex.finditer(_word(_capitalised(word)), text):
                again.append(_Span(match.start(), match.end(), "NAME"))
        return again

    @cached_property
    def _rules(self) -> list[tuple[str, Any]]:
        import regex

        # The library loads both wherever they are installed, for recognisers that are not used here: three seconds,
        # 330 MB, and a context on the GPU. A model of spaCy may need them.
        with hidden(*(() if self._model else ("torch", "transformers"))):
            from presidio_analyzer import Pattern, PatternRecognizer

        return [
            (
                rule.kind,
                PatternRecognizer(
                    supported_entity=rule.kind,
                    name=rule.name,
                    patterns=[Pattern(rule.name, rule.expression, 1.0)],
                    global_regex_flags=regex.MULTILINE,
                ),
            )
            for rule in RULES
        ]

    @cached_property
    def _library(self) -> list[Any]:
        # Its recognisers of e-mail and web addresses are left out: they ask the network for a list of domains.
        from presidio_analyzer.predefined_recognizers import (
            CreditCardRecognizer,
            IbanRecognizer,
            IpRecognizer,
            PhoneRecognizer,
        )

        return [
            CreditCardRecognizer(),
            IbanRecognizer(),
            IpRecognizer(),
            PhoneRecognizer(),
        ]

    @cached_property
    def _pipeline(self) -> Any:
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": str(self._model)}])
        engine.load()
        return engine

    @cached_property
    def _people(self) -> Any:
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer

        return SpacyRecognizer(supported_entities=["PERSON", "LOCATION"])


def _word(expression: str) -> str:
    return rf"(?<![\p{{L}}\d])(?:{expression})(?![\p{{L}}\d])(?!(?:['\u2019]s)?[ ]{EPONYM_NOUN}\b)"


def _capitalised(word: str) -> str:
    import regex

    return "|".join(regex.escape(word[:1].upper() + rest) for rest in (word[1:], word[1:].lower(), word[1:].upper()))


def _trimmed(text: str, span: _Span, cue: bool = True) -> _Span | None:
    """The span without words that are no part of a name; nothing when none are left."""
    import regex

    if span.kind not in ("NAME", "PLACE"):
        return span
    words = list(regex.finditer(r"[\p{L}\d][\p{L}\p{M}\d'\u2019^.\-]*", text[span.start : span.end]))
    if span.kind == "PLACE":
        while words and words[0].group().casefold().strip(".") in GENERIC_PLACES - {"university"}:
            words = words[1:]
        if all(word.group().casefold().strip(".") in GENERIC_PLACES | (NOT_NAMES - COMMON) for word in words):
            return None
        return _Span(span.start + words[0].start(), span.end, span.kind)
    kept = []
    for word in words:
        plain = word.group().casefold().strip(".")
        # A common word is a surname where a cue says so.
        if plain in NOT_NAMES and not (cue and (plain in COMMON or len(plain) == 1)):
            break
        kept.append(word)
    if not kept or (not cue and all(word.group().casefold() in EPONYMS for word in kept)):
        return None
    return _Span(span.start + kept[0].start(), span.start + kept[-1].end(), span.kind)


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for span in sorted(spans):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            kind = min(last.kind, span.kind, key=_ORDER.index)
            merged[-1] = _Span(last.start, max(last.end, span.end), kind)
        else:
            merged.append(span)
    return merged
