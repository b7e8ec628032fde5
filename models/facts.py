"""Facts: what is known of an image, what of it a prompt may show, and which questions it can carry."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

from medgr2.models.texts import words
from medgr2.schemas.digest import digest_of
from medgr2.schemas.vocabulary import QuestionType

PRIVATE = ("modality", "anatomy", "labels", "report")
"""Context of the generator alone. An item that was written under another one is outdated."""
REPORT_CHARACTERS = 4000
PASSAGE = 20
"""So many letters in a row are no accident."""
UNKNOWN, NONE = "unknown", "none"
NOT_TOLD = ("question_types",)
"""Labels that say nothing of the picture."""
MEANINGS = {
    QuestionType.MODALITY: "by which kind of examination the picture was made, as its look shows.",
    QuestionType.ANATOMY: "which part of the body, organ or structure is shown, or lies where something is seen.",
    QuestionType.DISEASE: "which disease, lesion or finding is shown, a normal picture included.",
    QuestionType.GRADING: "how severe, how far advanced or of which grade something that is shown is.",
    QuestionType.ATTRIBUTE: "another property of what is shown: its place, side, size, number, shape, border, texture "
    "or the plane and view of the picture.",
}
_NUMBER = r"(?:[0-5]|i{1,3}|iv|v)[abc]?"
_GRADED = re.compile(
    rf"\b(?:mild|moderate|severe|minimal|trace|advanced|incipient|end[- ]stage|(?:low|high|intermediate)[- ]grade|"
    rf"(?:well|moderately|poorly|un)[- ]?differentiated|(?:non[- ]?)?proliferative|"
    rf"(?:grade|graded|stage|staged)\s*(?::|=|of)?\s*{_NUMBER}|"
    rf"(?:bi|ti|pi|li|lung)[- ]?rads\s*:?\s*\d|gleason\s*(?:score|grade)?\s*:?\s*\d|kellgren|nyha|icdr|isup|"
    rf"[pc]?t[0-4][abc]?n[0-3])(?:ly)?\b",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"[\W_]+")
_DENIED = re.compile(r"^(?:no|none|not|without|unknown|n/?a|-+|ungraded)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Facts:
    modality: str = ""
    anatomy: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    report: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From a row of `images`."""
        return cls(
            modality=row.get("modality") or "",
            anatomy=row.get("anatomy") or "",
            labels=labels_of(row.get("labels")),
            report=row.get("report") or "",
        )

    def shown(self, name: str) -> str:
        """As a prompt shows it."""
        if name == "labels":
            return "; ".join(f"{label}: {value}" for label, value in sorted(self.labels.items())) or NONE
        if name == "report":
            return " ".join(self.report.split())[:REPORT_CHARACTERS] or NONE
        return str(getattr(self, name)) or UNKNOWN

    def context(self, names: Sequence[str]) -> str:
        """Which private facts a prompt shows, and a digest of them."""
        told = [name for name in PRIVATE if name in names]
        return f"{','.join(told)}:{digest_of([self.shown(name) for name in told])[:16]}"


def labels_of(text: str | None) -> dict[str, str]:
    """The labels of an image as words; objects among them stay JSON."""
    found: Mapping[str, Any] = json.loads(text or "{}")
    told = {name: value if isinstance(value, str) else _words(value) for name, value in found.items()}
    return {name: value for name, value in told.items() if value and name not in NOT_TOLD}


def names_of(context: str) -> tuple[str, ...]:
    """Which facts the digest of a context is of."""
    return tuple(filter(None, context.partition(":")[0].split(",")))


def supports(question_type: QuestionType, facts: Facts) -> bool:
    """Whether picture and facts can carry such a question. What a picture is of can always be asked; what ails
    somebody only where somebody who knows has said so."""
    if question_type is QuestionType.DISEASE:
        return bool(facts.labels or facts.report)
    if question_type is QuestionType.GRADING:
        return names_a_grade(facts)
    return True


def names_a_grade(facts: Facts) -> bool:
    grade = facts.labels.get("grade", "")
    if grade and not _DENIED.match(grade):
        return True
    told = [*(value for name, value in facts.labels.items() if name != "grade"), facts.report]
    return any(_GRADED.search(" ".join(text.split())) for text in told)


def quotes(text: str, report: str, run: int = 8) -> bool:
    """Whether the text repeats so many words of the report in a row, however they are divided and joined."""
    if not _runs(report, run).isdisjoint(_runs(text, run)):
        return True
    said = _bare(text)
    return any(passage in said for passage in _passages(report, run))


@lru_cache(maxsize=1024)
def _runs(text: str, run: int) -> frozenset[tuple[str, ...]]:
    said = words(text)
    return frozenset(said[at : at + run] for at in range(len(said) - run + 1))


@lru_cache(maxsize=1024)
def _passages(report: str, run: int) -> tuple[str, ...]:
    bare = {_bare("".join(some)) for some in _runs(report, run)}
    return tuple(sorted(one for one in bare if len(one) >= PASSAGE))


def _bare(text: str) -> str:
    """Letters and figures alone: what is between them, seen or not, divides nothing."""
    return _BETWEEN.sub("", unicodedata.normalize("NFKC", text).casefold())


_ALLUDES = re.compile(
    r"\b(?:according to|as (?:described|stated|mentioned|noted|given|reported) (?:in|by)|based on|per|"
    r"(?:stated|mentioned|described|noted|documented|given|provided) in)\s+(?:the\s+|this\s+|its\s+)?(?:\w+\s+){0,2}"
    r"(?:reports?|labels?|metadata|annotations?|facts)\b"
    r"|\bthe\s+(?:\w+\s+)?(?:report|labels?|metadata|annotation)\s+(?:says?|states?|mentions?|describes?|indicates?|notes?|"
    r"confirms?|reads?)\b",
    re.IGNORECASE,
)


def alludes(text: str) -> bool:
    """Whether it speaks of what its readers do not have."""
    return _ALLUDES.search(text) is not None


def _words(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
