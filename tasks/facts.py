"""Facts from the lake: rows of images, and labels that other pictures show, for the options that are wrong.

A label is offered where it occurs in the same source and modality, and to images only that came in no earlier than it
was known there: so adding images makes cells of theirs and changes none, and correcting a label disturbs few others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.lake import Lake
from medgr2.models.facts import labels_of
from medgr2.models.texts import plain
from medgr2.schemas.vocabulary import Modality, QuestionType, Split

COLUMNS = ["image_id", "split", "modality", "anatomy", "labels", "report", "source"]
LEDGER_FACTS = ("modality", "anatomy", "diagnosis", "grade")
"""What a line of the table `files` says of its pictures, in this order."""
CANDIDATES = 8
LONGEST = 80
"""Characters: what is longer is a description, and no option."""
KINDS = {QuestionType.ANATOMY: "anatomy", QuestionType.DISEASE: "diagnosis", QuestionType.GRADING: "grade"}
OTHER = "attributes"
_BETWEEN = re.compile(r"\s*[;|]\s*")
_ALIKE = ["source", "modality", "anatomy", "labels"]
_Place = tuple[str | None, str | None, str]


class Pools:
    """By source, modality and kind: each label with the moment since when it is known there."""

    def __init__(self, arrived: Mapping[str, int], known: Mapping[_Place, Mapping[str, int]]) -> None:
        self._arrived = arrived
        self._known = known

    def candidates(self, row: Mapping[str, Any], question_type: QuestionType) -> tuple[str, ...]:
        """None of them is told of this image itself. In an order by hash: one label more or less moves no other."""
        if question_type is QuestionType.MODALITY:
            return tuple(one.value for one in Modality if one != row["modality"])
        kind, image = KINDS.get(question_type, OTHER), str(row["image_id"])
        own = {plain(label) for label in dict(_told(row)).get(kind, ())}
        known = self._known.get((row["source"], row["modality"], kind), {})
        others = {plain(label): label for label, since in known.items() if since <= self._arrived[image]}
        chosen = sorted((_place(image, name), label) for name, label in others.items() if name not in own)
        return tuple(label for _, label in chosen[:CANDIDATES])


def read_pools(lake: Lake, images: Sequence[str]) -> Pools:
    """For these images. What is known comes from all that may be trained on: the exam's labels stay with it."""
    held = lake.read("images", ["image_id", *_ALIKE, "added_at"], {"split": Split.TRAIN.value})
    ledger = _ledger(lake)
    first = ledger.group_by("image_id").aggregate([("seen_at", "min"), ("seen_at", "count")])
    held = held.join(first, keys="image_id", join_type="left outer")
    came = pc.coalesce(held["seen_at_min"], pc.cast(held["added_at"], pa.int64())).fill_null(0)
    held = held.append_column("came", came)
    retold = pc.greater(held["seen_at_count"], 1).fill_null(False)
    known: dict[_Place, dict[str, int]] = defaultdict(dict)
    # Pictures of which the same was told from the beginning are many, and what is told is little.
    alike = held.filter(pc.invert(retold)).group_by(_ALIKE).aggregate([("came", "min")])
    for row in alike.to_pylist():
        _note(known, row, {}, row["came_min"])
    others = held.filter(retold)
    said = _said(ledger.filter(pc.is_in(ledger["image_id"], value_set=others["image_id"])))
    for row in others.to_pylist():
        _note(known, row, said[row["image_id"]], row["came"])
    asked = held.filter(pc.is_in(held["image_id"], value_set=pa.array(images, pa.string())))
    return Pools(dict(zip(asked["image_id"].to_pylist(), asked["came"].to_pylist(), strict=True)), known)


def _ledger(lake: Lake) -> pa.Table:
    """A line for each picture that a line of `files` names."""
    files = lake.read("files", ["images", "facts", "seen_at"]).combine_chunks()
    lists = files["images"].combine_chunks() if files.num_rows else pa.array([], pa.list_(pa.string()))
    of = pc.list_parent_indices(lists)
    return pa.table(
        {
            "image_id": pc.list_flatten(lists),
            "facts": files["facts"].take(of),
            "seen_at": pc.cast(files["seen_at"].take(of), pa.int64()),
        }
    )


def _said(ledger: pa.Table) -> dict[str, dict[tuple[str, str], int]]:
    """By image, since when which label was told of it."""
    said: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    for line in ledger.sort_by("seen_at").to_pylist():
        facts = dict(zip(LEDGER_FACTS, json.loads(line["facts"] or "[]"), strict=False))
        for kind, labels in _told({**facts, "labels": json.dumps(facts)}):
            for label in labels:
                said[line["image_id"]].setdefault((kind, label), line["seen_at"])
    return said


def _note(
    known: dict[_Place, dict[str, int]], row: Mapping[str, Any], said: Mapping[tuple[str, str], int], came: int
) -> None:
    for kind, labels in _told(row):
        pool = known[row["source"], row["modality"], kind]
        for label in labels:
            since = said.get((kind, label), came)
            pool[label] = min(since, pool.get(label, since))


def _told(row: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The labels of a row by kind; several of one kind are told with a semicolon or a bar between them."""
    labels = labels_of(row["labels"])
    for kind in (*KINDS.values(), OTHER):
        text = (row["anatomy"] if kind == "anatomy" else labels.get(kind)) or ""
        yield kind, [one for one in _BETWEEN.split(text.strip()) if plain(one) and len(one) <= LONGEST]


def _place(image: str, label: str) -> str:
    return hashlib.sha256(f"{image}\0{label}".encode()).hexdigest()
