"""What models are asked, and the strict reading of what they reply.

The prompt text itself is part of a cell's key, so editing a prompt file makes new cells by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medgr2.models.answer_forms import PLAIN as ANSWER
from medgr2.models.answer_forms import parse_answer, reply_text
from medgr2.schemas.errors import NotFoundError
from medgr2.schemas.items import Draft
from medgr2.schemas.vocabulary import LETTERS, QuestionType

__all__ = [
    "ANSWER",
    "GENERATE_EMBEDDED",
    "REPAIR",
    "answering_text",
    "chat",
    "draft_text",
    "generating_text",
    "load_prompt",
    "object_in",
    "parse_answer",
    "parse_draft",
    "reply_text",
]

FOLDER = Path(__file__).with_name("prompt_texts")
GENERATE_EMBEDDED = "generate.embedded.v1"
REPAIR = "repair.v1"


def load_prompt(name: str) -> str:
    """The text of a prompt file; the line end of its last line is not part of it."""
    path = FOLDER / f"{name}.txt"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.txt")))
        raise NotFoundError(f"no prompt named {name!r}", where=str(FOLDER), next_command=f"use one of: {known}")
    return path.read_text(encoding="utf-8").removesuffix("\n")


def generating_text(template: str, question_type: QuestionType | str, report: str | None) -> str:
    return template.format(question_type=str(question_type), report=" ".join((report or "").split()) or "none")


def answering_text(template: str, question: str, options: Sequence[str]) -> str:
    listed = " ".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return template.format(question=question, options=listed)


def draft_text(draft: Draft) -> str:
    """The line a generator should write for this draft."""
    body = {
        "question": draft.question,
        "options": list(draft.options),
        "answer": draft.answer,
        "rationale": draft.rationale,
    }
    return json.dumps(body)


def chat(text: str) -> list[dict[str, Any]]:
    """One image and one text, in the form that chat templates read."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


def parse_draft(text: str) -> Draft | str:
    """The draft, or the code of the first reason why the text is none."""
    try:
        body = json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constants)
    except _Refused as refused:
        return refused.reason
    except (ValueError, RecursionError):
        return "not_json"
    if not isinstance(body, dict):
        return "not_an_object"
    try:
        # From JSON text, not from `body`: only there do strict types still let a list be the options.
        return Draft.model_validate_json(text, strict=True)
    except ValidationError as problem:
        first = problem.errors(include_input=False, include_url=False, include_context=False)[0]
        if first["type"] == "extra_forbidden":
            return "unknown_key"
        if first["type"] == "json_invalid":
            return "not_json"
        # The only check across fields is the one of the key.
        return f"schema:{first['loc'][0] if first['loc'] else 'answer'}"


def object_in(text: str, at: int) -> tuple[dict[str, Any] | str, int]:
    """The object that begins there, or why there is none; and where to look further."""
    try:
        body, end = _READER.raw_decode(text, at)
    except _Refused as refused:
        return refused.reason, len(text)
    except RecursionError:
        return "not_json", len(text)
    except ValueError:
        return "not_json", at + 1
    return body, end


class _Refused(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise _Refused("duplicate_key")
    return body


def _no_constants(_: str) -> Any:
    raise _Refused("not_a_number")


_READER = json.JSONDecoder(object_pairs_hook=_no_twins, parse_constant=_no_constants)
