"""What is to be asked of the generator: a cell for every image, question type and sample that facts and quotas allow.

Sample by sample, and in the order of image ids, which are hashes: so the first n of them are a fair part of a night.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.models.facts import MEANINGS, NONE, Facts, supports
from medgr2.models.styles import Style, fields_of
from medgr2.schemas.cells import Cell, Recipe
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.vocabulary import Modality, QuestionType, Split
from medgr2.tasks.facts import COLUMNS, Pools, read_pools

DISTRACTORS = "distractors"


@dataclass(frozen=True)
class Wanted:
    cells: tuple[Cell, ...]
    unsupported: Mapping[str, int]
    """By question type, how many were left out because nothing known of their image supports them."""
    contexts: Mapping[str, str]
    """By image: which private facts its prompt shows, and their digest."""
    modality: Mapping[str, str]


def wanted(lake: Lake, how: Recipe, style: Style, parameters: GenerateParameters, images: Sequence[str]) -> Wanted:
    """Held-out images are never asked about, whoever names them."""
    rows = lake.read("images", COLUMNS, {"image_id": list(images), "split": Split.TRAIN.value}).to_pylist()
    pools = read_pools(lake, images) if DISTRACTORS in fields_of(how.prompt) else None
    return want(rows, how, style, parameters, pools)


def want(
    rows: Iterable[Mapping[str, Any]],
    how: Recipe,
    style: Style,
    parameters: GenerateParameters,
    pools: Pools | None = None,
) -> Wanted:
    names = fields_of(how.prompt)
    asked: list[tuple[str, dict[str, Any]]] = []
    unsupported: Counter[str] = Counter()
    contexts, modality = {}, {}
    for row in sorted((row for row in rows if row["split"] == Split.TRAIN), key=lambda row: str(row["image_id"])):
        image, facts = str(row["image_id"]), Facts.of(row)
        contexts[image], modality[image] = facts.context(names), facts.modality
        for question_type in parameters.question_types:
            if not within_quota(image, question_type, facts.modality, parameters.quotas):
                continue
            # The embedded model was taught to ask whatever it is told to, and to make do with any report.
            if not style.strict and not supports(question_type, facts):
                unsupported[question_type.value] += 1
                continue
            asked.append((image, _inputs(style, names, row, facts, question_type, pools)))
    cells = tuple(
        how.cell(image=image, inputs={**inputs, "sample": sample})
        for sample in range(parameters.samples)
        for image, inputs in asked
    )
    return Wanted(cells, dict(sorted(unsupported.items())), contexts, modality)


def within_quota(
    image: str, question_type: QuestionType, modality: str, quotas: Mapping[QuestionType | Modality, float]
) -> bool:
    """The same for an image whatever others come in, and for a larger share whenever it was for a smaller one."""
    if not quotas:
        return True
    share = quotas.get(question_type, 1.0)
    share *= next((quotas[one] for one in Modality if one == modality and one in quotas), 1.0)
    if share >= 1:
        return True
    drawn = hashlib.sha256(f"{image}\0{question_type}".encode()).hexdigest()[:12]
    return int(drawn, 16) / 16**12 < share


def _inputs(
    style: Style,
    names: Sequence[str],
    row: Mapping[str, Any],
    facts: Facts,
    question_type: QuestionType,
    pools: Pools | None,
) -> dict[str, Any]:
    """Just what the prompt names: what it does not show cannot make a cell another one."""
    if style.strict:
        return {"question_type": question_type.value, "report": row["report"] or ""}
    inputs: dict[str, Any] = {}
    for name in names:
        if name == "question_type":
            inputs[name] = question_type.value
        elif name == "meaning":
            inputs[name] = MEANINGS[question_type]
        elif name == DISTRACTORS:
            inputs[name] = "; ".join(pools.candidates(row, question_type) if pools else ()) or NONE
        else:
            inputs[name] = facts.shown(name)
    return inputs
