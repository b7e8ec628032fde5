"""Forms of an answer: thought before the letter, after it or not at all, and what an exam has to know of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from medgr2.schemas.vocabulary import LETTERS, AnswerStyle

PLAIN = "answer.v1"
"""The question and its options alone: a policy that is taught by example is not told how to reply."""
SHORT, ROOMY = 64, 512
"""Tokens of a reply: taught by examples, or told in words."""
METRIC = "answering"
"""Under this name a policy's registration says how it answers."""

_ANSWER = r"<answer>(?P<letter>[A-Z])</answer>"
_THOUGHT = r"<think>(?P<think>.*)</think>"
_READABLE = {
    "think": re.compile(rf"(?:{_THOUGHT})?\s*{_ANSWER}", re.DOTALL),
    "no-think": re.compile(_ANSWER),
    "think-after": re.compile(rf"{_ANSWER}\s*(?:{_THOUGHT})?", re.DOTALL),
}
# As soon as a mark begins: one that is never closed hides an answer as well, and is found in one pass.
_MARK = re.compile(r"</?(?:think|answer)\b", re.IGNORECASE)


class Answering(BaseModel):
    """How a policy was taught to answer, and so how it is to be asked and read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: AnswerStyle = "think"
    prompt: str = PLAIN
    """Name of its prompt file."""
    longest: int = SHORT
    """Tokens that a reply may have."""


def answering_of(metrics: Mapping[str, Any]) -> Answering:
    """Of a registered model, by its metrics. A model that says nothing of it answers as the base does."""
    return Answering.model_validate(metrics.get(METRIC, {}))


def answering_in(style: AnswerStyle, *, told: bool, longest: int = SHORT) -> Answering:
    return Answering(style=style, prompt=f"answer.{style}.v1" if told else PLAIN, longest=longest)


def of_given(*, told: bool) -> Answering:
    """Of a model that was not trained here."""
    return answering_in("think", told=True, longest=ROOMY) if told else Answering()


def reply_text(rationale: str, letter: str, style: AnswerStyle = "think") -> str:
    thought, answer = f"<think>{rationale}</think>", f"<answer>{letter}</answer>"
    return {"think": thought + answer, "no-think": answer, "think-after": answer + thought}[style]


def parse_answer(text: str, n_options: int, style: AnswerStyle = "think") -> str | None:
    """The letter of a well-formed reply, else None: a reply that could be read two ways was not an answer.

    Well-formed is exactly one answer block that holds exactly one letter of the options; a think block before it, or
    after it, where the style has one; and nothing else around them but white space.
    """
    found = _read(text, style)
    return found["letter"] if found is not None and found["letter"] in LETTERS[:n_options] else None


def parse_thought(text: str, style: AnswerStyle = "think") -> str:
    """What a readable reply says it saw; empty where it says nothing, or its style has no thought."""
    found = _read(text, style)
    return ((found.groupdict().get("think") if found else "") or "").strip()


def well_formed(text: str, n_options: int, style: AnswerStyle = "think") -> bool:
    """Whether the reply has all that its style asks for: to the letter also the thought, and not an empty one."""
    if parse_answer(text, n_options, style) is None:
        return False
    found = _read(text, style)
    return style == "no-think" or (found is not None and bool((found["think"] or "").strip()))


def _read(text: str, style: AnswerStyle) -> re.Match[str] | None:
    found = _READABLE[style].fullmatch(text.strip())
    if found is None or _MARK.search(found.groupdict().get("think") or ""):
        return None
    return found
