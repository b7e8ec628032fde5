"""What the fake model writes: a draft that can be used, of the question type that the prompt names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fake_contents import Content

LETTERS = "ABCD"
_TYPE = re.compile(r'the type "([^"{}]+)"|write one ([A-Z][A-Za-z ]+?) question')
_THOUGHT = re.compile(r'"(reflection|reasoning)":')
PLACES = ("upper left", "upper right", "lower left", "lower right", "central", "outer", "anterior", "posterior")
LOOKS = ("bright", "dark", "round", "irregular", "smooth", "speckled", "sharply bounded", "blurred")
POOLS = {
    "Modality Recognition": (
        ("CT", "MRI", "X-Ray", "Ultrasound", "Dermoscopy", "Fundus Photography", "OCT", "Microscopy"),
        "Which technique made this picture with its {look} {place} area ({mark})?",
    ),
    "Anatomy Identification": (
        ("liver", "left lung", "right kidney", "brain stem", "spleen", "retina", "femur", "thyroid gland"),
        "Which structure shows a {look} texture in the {place} part of the picture ({mark})?",
    ),
    "Disease Diagnosis": (
        ("pneumonia", "melanoma", "glioma", "haemorrhage", "fracture", "fibrosis", "drusen", "no finding"),
        "Which disease explains the {look} change in the {place} area ({mark})?",
    ),
    "Lesion Grading": (
        ("grade one", "grade two", "grade three", "grade four", "no lesion", "too small to grade"),
        "How severe is the {look} lesion in the {place} area ({mark})?",
    ),
    "Other Biological Attributes": (
        ("upper left", "upper right", "lower left", "lower right", "in the middle", "along the rim"),
        "Where does the {look} area with the {place} border lie ({mark})?",
    ),
}


def verdict_of(content: Content) -> float | None:
    """How sure it is of Yes, where Yes or No is asked."""
    return content.share("verdict") if content.text.endswith("Yes or No.") else None


def reply_of(content: Content, form: Mapping[str, Any] | None) -> str:
    """The draft as JSON, with whatever other fields the form or the prompt wants; or the word that is wanted."""
    if (sure := verdict_of(content)) is not None:
        return "Yes" if sure > 0.5 else "No"
    digest = content.digest
    named = _TYPE.search(content.text)
    kinds = list(POOLS)
    kind = (named[1] or named[2]) if named else kinds[digest[0] % len(kinds)]
    pool, question = POOLS.get(kind, POOLS[kinds[digest[0] % len(kinds)]])
    options = sorted(pool, key=lambda word: (digest[1] * (7 + len(word)) + digest[2] * ord(word[0])) % 251)[:4]
    key = digest[3] % 4
    look, place = LOOKS[digest[4] % len(LOOKS)], PLACES[digest[5] % len(PLACES)]
    draft: dict[str, Any] = {
        "question": question.format(look=look, place=place, mark=digest[6:9].hex()),
        "options": options,
        "answer": LETTERS[key],
        "rationale": f"The {place} area is {look}, which speaks for {options[key]}.",
    }
    if form is not None:
        others = {name: _filled(what) for name, what in form.get("properties", {}).items() if name not in draft}
        return json.dumps({**others, **draft})
    if thought := _THOUGHT.search(content.text):
        return json.dumps({thought[1]: "The picture allows this question.", **draft})
    return json.dumps(draft)


def _filled(what: Mapping[str, Any]) -> Any:
    kind = what.get("type", "string")
    return {"boolean": False, "integer": 0, "number": 0.0, "array": [], "object": {}}.get(
        kind, "The picture allows this question."
    )


def spoilt(kind: str, content: Content, written: str) -> tuple[str, str]:
    """The reply and its finish_reason, as a permanent fault leaves them."""
    if kind == "truncated_json":
        # Half of the servers that cut a reply short say so.
        return written[: len(written) // 2], "length" if content.digest[10] % 2 else "stop"
    if kind == "prose":
        return f"Certainly! Here is the question:\n```json\n{written}\n```\nI hope that it helps.", "stop"
    return json.dumps({"unsupported": True}), "stop"
