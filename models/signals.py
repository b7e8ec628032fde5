"""Signals: what the frozen scorer thinks of an item. A look measures those that share what the scorer has to read;
each look is kept by itself, so that a new one disturbs none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from medgr2.models.engines.seam import Completion, Request
from medgr2.models.engines.transformers import Examined, TransformersEngine
from medgr2.models.grey import GreyPictures
from medgr2.models.prompts import answering_text, parse_answer, reply_text
from medgr2.schemas.vocabulary import LETTERS

ANSWER_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Exam:
    """One item before the scorer; the seed is its cell's. No report: the scorer sees what a student sees."""

    image_path: Path
    question: str
    options: tuple[str, ...]
    answer: str
    rationale: str
    seed: int
    strangers: tuple[Path, ...] = ()
    """Pictures of other patients, for looks that ask without the right one."""

    def seeds(self, count: int, first: int = 0) -> tuple[int, ...]:
        return tuple((self.seed << 16) + first + k for k in range(count))


class Look(Protocol):
    name: str
    signals: tuple[str, ...]
    code: str
    """Version of the measurement; raised by hand when its numbers change."""
    parameters: Mapping[str, JsonValue]

    def measure(
        self, engine: TransformersEngine, prompt: str, exams: Sequence[Exam], parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """For each exam a record that holds at least the values of its signals under their names."""
        ...


class Answers:
    """`lp`: mean log-probability of the tokens of rationale and key, given image, question and options. `agree`: share
    of K sampled answers, strictly read, that equal the key; one minus it is the difficulty. Both follow one prompt."""

    name = "answers"
    signals: tuple[str, ...] = ("lp", "agree")
    code = "2"
    parameters: Mapping[str, JsonValue] = {"answers": 8, "temperature": 1.0, "max_new_tokens": ANSWER_TOKENS}

    def measure(
        self, engine: TransformersEngine, prompt: str, exams: Sequence[Exam], parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        count = int(parameters["answers"])
        asked = [
            Examined(
                Request(
                    e.image_path,
                    answering_text(prompt, e.question, e.options),
                    seeds=e.seeds(count),
                    temperature=float(parameters["temperature"]),
                    max_new_tokens=int(parameters["max_new_tokens"]),
                ),
                reply_text(e.rationale, e.answer),
            )
            for e in exams
        ]
        records: list[dict[str, Any]] = []
        for exam, found in zip(exams, engine.examine(asked), strict=True):
            said = Counter(_letter(c, exam) or "unreadable" for c in found.completions)
            lp = found.logprob.mean if found.logprob else None
            records.append({"lp": lp, "agree": said[exam.answer] / count, "answers": dict(sorted(said.items()))})
        return records


class Orders:
    """`perm`: share of other orders of the options in which the likeliest answer still names the key."""

    name = "orders"
    signals: tuple[str, ...] = ("perm",)
    code = "1"
    parameters: Mapping[str, JsonValue] = {"orders": 3, "max_new_tokens": ANSWER_TOKENS}

    def measure(
        self, engine: TransformersEngine, prompt: str, exams: Sequence[Exam], parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        turned = [list(_turns(exam, int(parameters["orders"]))) for exam in exams]
        requests = [
            Request(
                exam.image_path,
                answering_text(prompt, exam.question, options),
                max_new_tokens=int(parameters["max_new_tokens"]),
            )
            for exam, orders in zip(exams, turned, strict=True)
            for options, _ in orders
        ]
        replies = iter(engine.complete(requests))
        records: list[dict[str, Any]] = []
        for exam, orders in zip(exams, turned, strict=True):
            hits = [_letter(next(replies)[0], exam) == letter for _, letter in orders]
            records.append({"perm": sum(hits) / len(hits)})
        return records


class Blind:
    """`blind`: share of sampled answers that equal the key when the picture is grey, or other patients'. An item that
    is answered as well without its picture teaches nobody to look. Several others: one may happen to show the same."""

    name = "blind"
    signals: tuple[str, ...] = ("blind",)
    code = "1"
    parameters: Mapping[str, JsonValue] = {
        "answers": 2,
        "strangers": 3,
        "temperature": 1.0,
        "max_new_tokens": ANSWER_TOKENS,
    }

    def measure(
        self, engine: TransformersEngine, prompt: str, exams: Sequence[Exam], parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        count, grey = int(parameters["answers"]), GreyPictures()
        shown = [[grey.instead_of(e.image_path), *e.strangers] for e in exams]
        requests = [
            Request(
                picture,
                answering_text(prompt, exam.question, exam.options),
                seeds=exam.seeds(count, place * count),
                temperature=float(parameters["temperature"]),
                max_new_tokens=int(parameters["max_new_tokens"]),
            )
            for exam, pictures in zip(exams, shown, strict=True)
            for place, picture in enumerate(pictures)
        ]
        replies = iter(engine.complete(requests))
        records: list[dict[str, Any]] = []
        for exam, pictures in zip(exams, shown, strict=True):
            hits = [_letter(reply, exam) == exam.answer for _ in pictures for reply in next(replies)]
            records.append({"blind": sum(hits) / len(hits)})
        return records


LOOKS: dict[str, Look] = {look.name: look for look in (Answers(), Orders(), Blind())}
SIGNALS: tuple[str, ...] = tuple(name for look in LOOKS.values() for name in look.signals)


def _letter(completion: Completion, exam: Exam) -> str | None:
    return parse_answer(completion.text, len(exam.options)) if completion.finished else None


def _turns(exam: Exam, most: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """The options moved on by one, two, ... places, and the letter that the key has then."""
    count, key = len(exam.options), LETTERS.index(exam.answer)
    for by in range(1, min(most, count - 1) + 1):
        yield (*exam.options[-by:], *exam.options[:-by]), LETTERS[(key + by) % count]
