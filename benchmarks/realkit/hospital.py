"""The kit as a hospital's folders: pictures, a table without their labels, and questions that people wrote."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realkit import kit

EASY = 3
"""In the exam one picture in so many is asked for its modality, and one for its anatomy: they are easy here."""


@dataclass(frozen=True)
class Hospital:
    first: Path
    """What people asked about, for training and for the exam."""
    later: Path
    seed: Path
    heldout: Path
    written: list[dict[str, Any]]
    """The questions of the seed."""
    reports: dict[str, str]
    counts: dict[str, int]


def build(source: Path, out: Path, seed: int) -> Hospital:
    """The same seed gives the same folders."""
    wards = kit.split(kit.pictures(source), seed)
    rng = random.Random(f"questions of seed {seed}")
    written = kit.questions(wards.seeded, rng)
    exam = [
        kit.question(picture, kind, rng)
        for at, picture in enumerate(wards.heldout)
        for kind in picture.truth
        if kind == kit.DISEASE or at % EASY == (kind == kit.ANATOMY)
    ]
    reports = {picture.file: kit.report(picture, rng) for picture in (*wards.seeded, *wards.silent)}
    first, later = out / "first", out / "later"
    for folder, chosen in ((first, [*wards.seeded, *wards.heldout]), (later, wards.silent)):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for picture in chosen:
            shutil.copyfile(source / picture.file, folder / picture.file)
        held = {picture.file for picture in wards.heldout}
        _table(folder / "labels.csv", chosen, held, reports)
    _lines(first / "seed_qa.jsonl", written)
    _lines(first / "heldout.jsonl", exam)
    counts = {
        "held out": len(wards.heldout),
        "with questions of people": len(wards.seeded),
        "without": len(wards.silent),
        "questions of people": len(written),
        "questions of the exam": len(exam),
    }
    return Hospital(first, later, first / "seed_qa.jsonl", first / "heldout.jsonl", written, reports, counts)


def _table(path: Path, chosen: Sequence[kit.Picture], held: set[str], reports: dict[str, str]) -> None:
    """No diagnosis and no anatomy, but in reports that err."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("file", "modality", "group_id", "source", "split", "report"))
        for one in chosen:
            split = "heldout" if one.file in held else "train"
            report = reports.get(one.file, "")
            table.writerow((one.file, one.truth[kit.MODALITY], one.group, one.source, split, report))


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
