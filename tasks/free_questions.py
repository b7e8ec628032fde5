"""Free questions: what VQA-RAD, SLAKE and PathVQA ask without options, kept as their authors ask it, to examine on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.infra.workspace import Workspace
from medgr2.models.registry import Source
from medgr2.schemas.digest import digest_of, sha256_hex
from medgr2.schemas.errors import DataError
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.benchmarks import FreeQuestion
from medgr2.tasks.questions import StoredImages

HELD = "held"
OWN_VERSION = 0
"""Of a benchmark's questions as they came: no version is published of them, their digest says which they are."""


def take_free(
    workspace: Workspace, benchmark: str, asked: Iterable[tuple[str, FreeQuestion]], folder: Path, *, run: str
) -> dict[str, int]:
    """How many are held afterwards, and how many are not, by reason."""
    questions = list(asked)
    if not questions:
        return {}
    stored, rows, told = StoredImages(workspace), {}, Counter[str]()
    for file, free in questions:
        images = stored.of_file(sha256_hex((folder / file).read_bytes()))
        if len(images) != 1:
            told["file_of_several_pictures" if images else "image_not_ingested"] += 1
            continue
        (image,) = images
        if stored.splits[image] != Split.HELDOUT:
            told[f"image_is_{stored.splits[image]}"] += 1
            continue
        question_id = digest_of([benchmark, image, free.question, free.answer])
        if question_id in rows:
            told["duplicate"] += 1
            continue
        rows[question_id] = {
            "question_id": question_id, "benchmark": benchmark, "image_id": image, "question": free.question,
            "answer": free.answer, "closed": free.closed, "kind": free.kind, "run": run, "added_at": datetime.now(UTC),
        }  # fmt: skip
    workspace.lake.append_new("free_questions", list(rows.values()), key="question_id")
    return {HELD: len(rows), **dict(sorted(told.items()))}


def read_free(lake: Lake, benchmark: str) -> tuple[list[dict[str, Any]], Source]:
    """The questions with their image's modality and patient, and what says which they are; none when none are held."""
    rows = lake.read("free_questions", where={"benchmark": benchmark}).to_pylist()
    columns = ["image_id", "modality", "patient_key", "split"]
    wanted = sorted({row["image_id"] for row in rows})
    images = {row["image_id"]: row for row in lake.read("images", columns, {"image_id": wanted}).to_pylist()}
    if stray := [i for i in wanted if i not in images or images[i]["split"] != Split.HELDOUT]:
        raise DataError(
            f"{len(stray)} of {len(wanted)} images of {benchmark} are gone or not held out any more",
            where=f"first: {stray[0]}",
            kept="nothing was asked",
            next_command="medgr2 audit splits",
        )
    rows.sort(key=lambda row: str(row["question_id"]))
    told = [
        row | {"item_id": row["question_id"]} | {name: images[row["image_id"]][name] for name in columns[1:3]}
        for row in rows
    ]
    digest = digest_of([row["question_id"] for row in rows])
    return told, Source(dataset=benchmark, version=OWN_VERSION, digest=digest)
