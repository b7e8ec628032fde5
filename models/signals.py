"""Signals: what the frozen scorer thinks of an item. Each is measured and kept by itself: a new one disturbs none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from medgr2.models.engines.seam import Request
from medgr2.models.engines.transformers import Reading, TransformersEngine
from medgr2.models.prompts import answering_text, parse_answer, reply_text

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


class Signal(Protocol):
    name: str
    code: str
    """Version of the measurement; raised by hand when its numbers change."""
    parameters: Mapping[str, JsonValue]

    def measure(
        self, engine: TransformersEngine, prompt: str, exams: Sequence[Exam], parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """For each exam a record that holds at least the signal's value under its name."""
        ...


class LogProbability:
    """Mean log-probability of the tokens of rationale and key, given image, question and options."""

    name = "lp"
    code = "1"
    parameters: Mapping[str, JsonValue] = {}

    def measure(
        self,
        engine: TransformersEngine,
        prompt: str,
        exams: Sequence[Exam],
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> list[dict[str, Any]]:
        readings = [
            Reading(e.image_path, answering_text(prompt, e.question, e.options), reply_text(e.rationale, e.answer))
            for e in exams
        ]
        return [{"lp": found.mean, "tokens": found.tokens} for found in engine.logprobs(readings)]


class Agreement:
    """Share of K sampled answers, strictly read, that equal the key. One minus it is the difficulty."""

    name = "agree"
    code = "1"
    parameters: Mapping[str, JsonValue] = {"answers": 8, "temperature": 1.0, "max_new_tokens": ANSWER_TOKENS}

    def measure(
        self, engine: TransformersEngine, prompt: str, exams: Sequence[Exam], parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        count = int(parameters["answers"])
        requests = [
            Request(
                e.image_path,
                answering_text(prompt, e.question, e.options),
                seeds=tuple((e.seed << 16) + k for k in range(count)),
                temperature=float(parameters["temperature"]),
                max_new_tokens=int(parameters["max_new_tokens"]),
            )
            for e in exams
        ]
        records: list[dict[str, Any]] = []
        for exam, completions in zip(exams, engine.complete(requests), strict=True):
            said = Counter(
                (parse_answer(c.text, len(exam.options)) if c.finished else None) or "unreadable" for c in completions
            )
            records.append({"agree": said[exam.answer] / count, "answers": dict(sorted(said.items()))})
        return records


SIGNALS: dict[str, Signal] = {signal.name: signal for signal in (LogProbability(), Agreement())}
