"""Reading what a general model replied: the draft is looked for, mended where there is one way to, and else refused.

Nothing is guessed: what could be read in two ways is a reason, and the reason is what the model is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from medgr2.models.prompts import object_in, parse_draft
from medgr2.models.styles import THINKING
from medgr2.models.texts import plain
from medgr2.schemas.items import Draft
from medgr2.schemas.vocabulary import LETTERS

UNSUPPORTED = "unsupported"
LONGEST = 64_000
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_LETTERED = re.compile(r"^\s*\(?([A-Ea-e])[).:]\s+(?=\S)")
_LETTER = re.compile(r"\(?([A-Ea-e])[).:]?")


def read_draft(text: str) -> Draft | str:
    """The draft, or the code of the first reason why the reply is none; `unsupported` where the model says that the
    picture carries no such question."""
    body = the_object(_THOUGHT.sub("", text))
    if isinstance(body, str):
        return body
    kept = {name: value for name, value in body.items() if name not in THINKING}
    if kept.pop(UNSUPPORTED, False) is True:
        return UNSUPPORTED
    try:
        draft = parse_draft(json.dumps(_mended(kept)))
    except RecursionError:  # what could just be read may be too deep to be written
        return "not_json"
    if isinstance(draft, Draft) and not 4 <= len(draft.options) <= 5:
        return "schema:options"
    return draft


def the_object(text: str) -> dict[str, Any] | str:
    """The one JSON object in a reply, bare, in fences or in prose; or the reason why it is not clear which."""
    if len(text) > LONGEST:
        return "not_json"
    found = list(_objects(text))
    whole = [one for one in found if isinstance(one, dict)]
    if len(whole) > 1:
        return "several_objects"
    if whole:
        return whole[0]
    return str(found[0]) if found else "not_json"


def _objects(text: str) -> Iterator[dict[str, Any] | str]:
    """Objects that are not inside of others, and why something that begins like one is none."""
    at = text.find("{")
    while at >= 0:
        body, end = object_in(text, at)
        yield body
        at = text.find("{", end)


def _mended(body: Mapping[str, Any]) -> dict[str, Any]:
    mended = dict(body)
    options = mended.get("options")
    if not isinstance(options, list) or not all(isinstance(one, str) for one in options):
        return mended
    marks = [_LETTERED.match(one) for one in options]
    if [mark and mark[1].upper() for mark in marks] == list(LETTERS[: len(options)]):
        options = mended["options"] = [one[mark.end() :] for one, mark in zip(options, marks, strict=True) if mark]
    if isinstance(answer := mended.get("answer"), str):
        mended["answer"] = _letter(answer, options)
    return mended


def _letter(answer: str, options: list[str]) -> str:
    """The letter that is meant: itself, or that of the one option whose text was given."""
    answer = answer.strip()
    if bare := _LETTER.fullmatch(answer):
        return bare[1].upper()
    same = [letter for letter, one in zip(LETTERS, options, strict=False) if plain(one) == plain(answer)]
    if len(same) == 1:
        return same[0]
    if lettered := _LETTERED.match(answer):
        letter = lettered[1].upper()
        return letter if _letter(answer[lettered.end() :], options) == letter else answer
    return answer
