"""The oracle: run `python -m medgr2_phantoms.oracle --truth FILE`, requests on stdin, verdicts on stdout.

It measures and nothing else. No program may import it, so that no training code can ever reach the truth.
"""

if __name__ != "__main__":
    raise ImportError(
        "medgr2_phantoms.oracle knows the truth and cannot be imported; "
        "run it as its own process: python -m medgr2_phantoms.oracle --truth FILE"
    )

import argparse
import json
import re
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from medgr2_phantoms.questions import BALANCE, LETTERS, TOPICS
from medgr2_phantoms.world import Scene

# Each row is a grammar: one choice from every slot makes a question that a reader would understand.
GRAMMAR: dict[str, tuple[tuple[tuple[str, ...], ...], ...]] = {
    "Modality Recognition": (
        (
            ("which", "what"),
            ("", "imaging"),
            ("modality", "technique"),
            ("is", "made", "produced"),
            ("this", "the"),
            ("image", "picture", "scan"),
        ),
        (
            ("which", "what"),
            ("", "imaging"),
            ("modality", "technique"),
            ("was used", "is used", "is shown"),
            ("", "here", "for this image"),
        ),
    ),
    "Anatomy Identification": (
        (
            ("which", "what"),
            ("anatomy", "body part", "anatomical region", "organ"),
            ("is shown", "is seen", "is imaged", "is this"),
            ("", "here", "in this image", "in the image"),
        ),
        (
            ("which", "what"),
            ("anatomy", "body part", "anatomical region", "organ"),
            ("does the image show", "does this image show"),
        ),
    ),
    "Disease Diagnosis": (
        (
            ("what is the",),
            ("", "most likely"),
            ("diagnosis", "disease", "abnormality"),
            ("", "here", "in this image", "in the image", "shown"),
        ),
        (
            ("which", "what"),
            ("diagnosis", "disease", "abnormality"),
            ("fits", "matches", "explains"),
            ("the image", "this image"),
        ),
        (
            ("which", "what"),
            ("disease", "abnormality", "diagnosis"),
            ("is seen", "is shown", "is present"),
            ("", "here", "in this image", "in the image"),
        ),
    ),
    "Lesion Grading": (
        (
            ("how serious is", "how severe is"),
            ("the lesion", "this lesion", "the finding"),
            ("", "here", "in this image", "in the image"),
        ),
        (("which grade has", "which grade fits", "what grade has"), ("the lesion", "this lesion", "the finding")),
        (
            ("what is the",),
            ("lesion grade", "grade of the lesion", "severity of the lesion"),
            ("", "here", "in this image", "in the image"),
        ),
    ),
    "Other Biological Attributes": (
        (("where is",), ("the finding", "the lesion"), ("", "seen", "located", "in this image", "in the image")),
        (("which region", "which quadrant"), ("holds", "contains", "shows"), ("the finding", "the lesion")),
    ),
}


def plain(text: str) -> str:
    """Lower case, single spaces, no closing punctuation: what two spellings of one thing share."""
    return " ".join(text.lower().split()).rstrip(" ?.!:")


UNDERSTOOD = {
    plain(" ".join(words)): question_type
    for question_type, rows in GRAMMAR.items()
    for slots in rows
    for words in product(*slots)
}
UNDERSTOOD |= {plain(phrasing): topic.name for topic in TOPICS.values() for phrasing in topic.phrasings}


class Request(BaseModel):
    """One item to judge."""

    model_config = ConfigDict(frozen=True)

    item_id: str
    image_sha256: str
    question_type: str
    question: str
    options: list[str]
    answer: str
    rationale: str


def contradiction(rationale: str, scene: Scene) -> str | None:
    """The first label in the rationale that is not true of the scene."""
    text = " ".join(rationale.lower().split())
    for attribute, labels in BALANCE.values():
        true = str(getattr(scene, attribute)).lower()
        for label in labels:
            wrong = label.lower()
            if wrong != true and re.search(rf"(?<![\w-]){re.escape(wrong)}(?![\w-])", text):
                return f"the rationale says {label} where {getattr(scene, attribute)} is true"
    return None


def judge(request: Request, scene: Scene | None) -> str | None:
    """None when the item is valid, otherwise why it is not."""
    if scene is None:
        return "unknown image"
    if request.question_type not in TOPICS:
        return f"unknown question type {request.question_type!r}"
    if UNDERSTOOD.get(plain(request.question)) != request.question_type:
        return "the question is not understood as a question of its type"
    options = [plain(option) for option in request.options]
    if not 4 <= len(options) <= 5 or len(set(options)) != len(options) or "" in options:
        return "the options are not four or five distinct texts"
    letters = (*LETTERS, "E")[: len(options)]
    if request.answer not in letters:
        return f"the answer {request.answer!r} is no letter of an option"
    attribute, labels = BALANCE[request.question_type]
    if stray := set(options) - {plain(label) for label in labels}:
        return f"{sorted(stray)[0]!r} is no answer to this question"
    true = plain(str(getattr(scene, attribute)))
    if true not in options:
        return "no option is true of the image"
    if options[letters.index(request.answer)] != true:
        return "the keyed option is not true of the image"
    if not request.rationale.strip():
        return "the rationale is empty"
    return contradiction(request.rationale, scene)


def verdicts(lines: Iterator[str], truth: dict[str, Scene]) -> Iterator[dict[str, object]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            request = Request.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            reason = f"line {number} is no request: {f'{where}: ' if where else ''}{first['msg']}"
            yield {"item_id": None, "valid": False, "reason": reason, "error": True}
            continue
        reason_or_none = judge(request, truth.get(request.image_sha256))
        yield {"item_id": request.item_id, "valid": reason_or_none is None, "reason": reason_or_none or "valid"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m medgr2_phantoms.oracle", description=__doc__)
    parser.add_argument("--truth", type=Path, required=True, help="the file that medgr2_phantoms.hospital wrote")
    chosen = parser.parse_args()
    try:
        with chosen.truth.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        truth = {row["image_sha256"]: Scene.model_validate(row["scene"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"cannot read the truth in {chosen.truth}: {error}") from None
    for verdict in verdicts(sys.stdin, truth):
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
