"""Evaluation: every held-out item asked with its picture, and again without, as a control on what looking is worth."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import JsonValue

from medgr2.infra.lake import Lake
from medgr2.infra.versions import members
from medgr2.models import prompts
from medgr2.models.answer_forms import Answering
from medgr2.models.measures import Answer, Summary, summarise
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import DataError
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import LETTERS, Split
from medgr2.tasks.lessons import images_of

STAGE = "evaluate"
CODE = "2"
WORKER = "medgr2.tasks.evaluate_worker:EvaluateWorker"


class Condition(StrEnum):
    IMAGE = "image"
    BLANK = "blank"
    """A grey picture of the same size."""
    SWAPPED = "swapped"
    """The picture of another patient."""
    BLIND = "blind"
    """No picture at all."""


def evaluate_recipe(
    artifact: str,
    *,
    longest: int | None = None,
    samples: int = 0,
    sampled_items: int | None = None,
    answering: Answering | None = None,
    engine: Mapping[str, JsonValue] | None = None,
) -> Recipe:
    """With samples, each item is answered so many times more at temperature 1, where its own picture is shown; or the
    first `sampled_items` only, by their digests: which they are, chance decides, and for every model alike.
    `answering` is how the model was taught to answer, by its registration; `engine` by what it is asked."""
    answering = answering or Answering()
    more: dict[str, JsonValue] = {"samples": samples, "sampled_at": 1.0} if samples else {}
    if samples and sampled_items is not None:
        more["sampled_items"] = sampled_items
    if answering.style != "think":
        more["style"] = answering.style
    return Recipe(
        stage=STAGE,
        code=CODE,
        model=artifact,
        prompt=prompts.load_prompt(answering.prompt),
        parameters={"longest": longest or answering.longest, "temperature": 0.0, **more, **(engine or {})},
    )


def asked(how: Recipe, prompt: str, style: str = "") -> str:
    """How it was asked, in words for a person: prompt, style and settings that are other than nothing."""
    settings = (f"{name}={value}" for name, value in how.parameters.items() if name not in ("style", "temperature"))
    return " ".join(filter(None, (prompt, style, *settings)))


def read_heldout(lake: Lake, heldout: DatasetVersion) -> list[dict[str, Any]]:
    """The held-out items with their image's modality and patient; refused when one is about a training image."""
    ids = members(lake, heldout)
    rows = lake.read("items", where={"item_id": ids}).to_pylist()
    if len(rows) != len(ids):
        raise DataError(f"{len(ids) - len(rows)} of {len(ids)} items of {heldout.ref} are gone", where="table items")
    images = images_of(lake, {row["image_id"] for row in rows})
    stray = sorted(i for i, image in images.items() if image["split"] != Split.HELDOUT)
    if stray:
        raise DataError(f"{len(stray)} images of {heldout.ref} are not held out", where=f"first: {stray[0]}")
    rows.sort(key=lambda row: row["item_id"])
    return [row | {k: images[row["image_id"]][k] for k in ("modality", "patient_key")} for row in rows]


def evaluate_cells(
    recipe: Recipe, heldout: Sequence[Mapping[str, Any]], conditions: Sequence[Condition]
) -> list[tuple[Cell, Mapping[str, Any], Condition]]:
    """One cell an item and condition. What is right is not in the cell: a worker can not see the key."""
    found = []
    others = Others(heldout)
    samples = recipe.parameters.get("samples")
    most = recipe.parameters.get("sampled_items", len(heldout))
    sampled = {row["item_id"] for row in heldout[: int(str(most))]} if samples else set()
    for condition in conditions:
        for row in heldout:
            shown = others.shown(row, condition)
            asked = {
                "question": row["question"],
                "options": list(row["options"]),
                "blank": condition is Condition.BLANK,
            }
            if condition is Condition.IMAGE and row["item_id"] in sampled:
                asked["samples"] = samples
            found.append((recipe.cell(image=shown, parents=(row["item_id"],), inputs=asked), row, condition))
    return found


class Others:
    """What is shown with each item; as the picture of another patient one that is drawn by the item alone."""

    def __init__(self, heldout: Sequence[Mapping[str, Any]]) -> None:
        self._images = sorted({row["image_id"] for row in heldout})
        place = {image: at for at, image in enumerate(self._images)}
        own: dict[str, set[int]] = defaultdict(set)
        for row in heldout:
            own[_patient(row)].add(place[row["image_id"]])
        self._own = {patient: sorted(places) for patient, places in own.items()}

    def shown(self, row: Mapping[str, Any], condition: Condition) -> str:
        """The image of a cell; none where nothing is to be seen."""
        if condition is Condition.BLIND:
            return ""
        return self.instead_of(row) if condition is Condition.SWAPPED else str(row["image_id"])

    def instead_of(self, row: Mapping[str, Any]) -> str:
        own = self._own[_patient(row)]
        if not (count := len(self._images) - len(own)):
            raise DataError("the held-out set has one patient only: no other picture to show")
        at = int(hashlib.sha256(row["item_id"].encode()).hexdigest()[:15], 16) % count
        for place in own:  # in rising order: each that stands before the place moves it on by one
            at += place <= at
        return str(self._images[at])


def _patient(row: Mapping[str, Any]) -> str:
    return str(row["patient_key"] or row["image_id"])


def collect(
    cells: Sequence[tuple[Cell, Mapping[str, Any], Condition]],
    outcomes: Mapping[str, Outcome],
    *,
    model_id: str,
    heldout: DatasetVersion,
    run: str,
    asked: str = "",
    own: bool = True,
    count_failed: bool = False,
) -> list[dict[str, Any]]:
    """Rows of `evals`. Every cell must have its answer, since leaving out those that failed would flatter the model;
    or, where they are to be counted, what failed is wrong and says so. `own`: asked as the gate asks this model."""
    missing = [cell.key for cell, _, _ in cells if outcomes[cell.key].value is None]
    if missing and not count_failed:
        raise DataError(
            f"{len(missing)} of {len(cells)} held-out answers are missing: they failed",
            kept="every answer that was given",
            next_command="run the evaluation again: it asks only for what is missing",
        )
    now = datetime.now(UTC)
    rows = []
    for cell, item, condition in cells:
        outcome = outcomes[cell.key]
        value = outcome.value or {"answer": None}
        answer, failed = value["answer"], ", ".join(outcome.reasons) if outcome.value is None else None
        if failed is not None and cell.inputs.get("samples"):
            value["sampled"] = [None] * int(cell.inputs["samples"])
        rows.append(
            {
                "eval_id": eval_id(model_id, heldout.digest, cell, failed),
                "model_id": model_id,
                "dataset": heldout.dataset,
                "version": heldout.version,
                "digest": heldout.digest,
                "item_id": item["item_id"],
                "image_id": item["image_id"],
                "modality": item["modality"],
                "question_type": item["question_type"],
                "condition": condition.value,
                "answer": answer,
                "key": item["answer"],
                "correct": answer == item["answer"] and answer in LETTERS,
                "parsed": answer is not None,
                "cell": cell.key,
                "run": run,
                "evaluated_at": now,
                "sampled": value.get("sampled"),
                "confidence": value.get("confidence"),
                "reply": value.get("reply"),
                "failed": failed,
                "asked": asked,
                "own": own,
            }
        )
    return rows


def eval_id(model_id: str, version: str, cell: Cell, failed: str | None) -> str:
    """Of each version by its digest: what a larger one holds besides is not all of its exam. An answer that failed and
    is given later is another row; the newest of an item and condition holds."""
    return hashlib.sha256("\0".join([model_id, version, cell.key, *filter(None, [failed])]).encode()).hexdigest()


def answers(rows: Iterable[Mapping[str, Any]], condition: Condition) -> list[Answer]:
    """The answers of one model under one condition, from rows of `evals`."""
    return [
        Answer(
            r["item_id"],
            r["image_id"],
            r["modality"] or "",
            r["question_type"],
            r["correct"],
            r["parsed"],
            tuple(letter == r["key"] for letter in r.get("sampled") or ()),
        )
        for r in rows
        if r["condition"] == condition
    ]


def summary(rows: Sequence[Mapping[str, Any]]) -> Summary:
    return summarise(answers(rows, Condition.IMAGE), answers(rows, Condition.BLANK), answers(rows, Condition.SWAPPED))
