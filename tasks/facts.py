"""Facts from the lake: rows of images, and labels that other pictures show, for the options that are wrong.

A label is offered where it occurs in the same source and modality, and to an image only when it was told there at the
moment the image came in: adding images, or correcting the labels of one, makes cells of theirs and changes no others.
"""

from __future__ import annotations

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
from medgr2.tasks.label_rings import STILL, LabelRings, Span

COLUMNS = ["image_id", "split", "modality", "anatomy", "labels", "report", "source"]
LEDGER_FACTS = ("modality", "anatomy", "diagnosis", "grade")
"""What a line of the table `files` says of its pictures, in this order."""
LONGEST = 80
"""Characters: what is longer is a description, and no option."""
KINDS = {QuestionType.ANATOMY: "anatomy", QuestionType.DISEASE: "diagnosis", QuestionType.GRADING: "grade"}
OTHER = "attributes"
_BETWEEN = re.compile(r"\s*[;|]\s*")
_ALIKE = ["source", "modality", "anatomy", "labels"]
_Place = tuple[str | None, str | None, str]


class Pools:
    """By source, modality and kind: each label with the times in which it was told there."""

    def __init__(self, told_at: Mapping[str, int], known: Mapping[_Place, Mapping[str, set[Span]]]) -> None:
        self._told_at = told_at
        self._rings = {place: LabelRings(labels) for place, labels in known.items()}

    def candidates(self, row: Mapping[str, Any], question_type: QuestionType) -> tuple[str, ...]:
        """None of them is told of this image itself."""
        if question_type is QuestionType.MODALITY:
            return tuple(one.value for one in Modality if one != row["modality"])
        kind, image = KINDS.get(question_type, OTHER), str(row["image_id"])
        if (rings := self._rings.get((row["source"], row["modality"], kind))) is None:
            return ()
        own = {plain(label) for told, labels in _told(row) if told == kind for label in labels}
        return rings.take(image, self._told_at[image], own)


def read_pools(lake: Lake, images: Sequence[str]) -> Pools:
    """For these images. What is known comes from all that may be trained on: the exam's labels stay with it."""
    held = lake.read("images", ["image_id", *_ALIKE, "added_at"], {"split": Split.TRAIN.value})
    ledger = _ledger(lake)
    first = ledger.group_by("image_id").aggregate([("seen_at", "min"), ("seen_at", "count")])
    held = held.join(first, keys="image_id", join_type="left outer")
    came = pc.coalesce(held["seen_at_min"], pc.cast(held["added_at"], pa.int64())).fill_null(0)
    held = held.append_column("came", came)
    retold = pc.greater(held["seen_at_count"], 1).fill_null(False)
    known: dict[_Place, dict[str, set[Span]]] = defaultdict(lambda: defaultdict(set))
    # Pictures of which the same was told from the beginning are many, and what is told is little.
    alike = held.filter(pc.invert(retold)).group_by(_ALIKE).aggregate([("came", "min")])
    for row in alike.to_pylist():
        for kind, labels in _told(row):
            for label in labels:
                known[row["source"], row["modality"], kind][label].add((row["came_min"], STILL))
    others = held.filter(retold)
    lines = _lines(ledger.filter(pc.is_in(ledger["image_id"], value_set=others["image_id"])))
    told_at: dict[str, int] = {}
    for row in others.to_pylist():
        image = row["image_id"]
        told_at[image] = _told_since(row, lines[image])
        for (kind, label), span in _spans(row, lines[image]).items():
            known[row["source"], row["modality"], kind][label].add(span)
    asked = held.filter(pc.is_in(held["image_id"], value_set=pa.array(images, pa.string())))
    came_at = dict(zip(asked["image_id"].to_pylist(), asked["came"].to_pylist(), strict=True))
    return Pools(came_at | told_at, known)


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


def _lines(ledger: pa.Table) -> dict[str, list[tuple[int, set[tuple[str, str]]]]]:
    """By image, what was told of it when, the oldest first."""
    lines: dict[str, list[tuple[int, set[tuple[str, str]]]]] = defaultdict(list)
    for line in ledger.sort_by("seen_at").to_pylist():
        facts = dict(zip(LEDGER_FACTS, json.loads(line["facts"] or "[]"), strict=False))
        told = {(kind, one) for kind, labels in _told({**facts, "labels": json.dumps(facts)}) for one in labels}
        lines[line["image_id"]].append((line["seen_at"], told))
    return lines


def _told_since(row: Mapping[str, Any], lines: Sequence[tuple[int, set[tuple[str, str]]]]) -> int:
    """Since when what is told of an image now is told: pictures may be there long before their labels, and would else
    never be offered one. When an image's own facts change, its cells are new ones anyway."""
    now = {(kind, one) for kind, labels in _told(row) if kind != OTHER for one in labels}
    return min((at for at, told in lines if told == now), default=row["came"])


def _spans(row: Mapping[str, Any], lines: Sequence[tuple[int, set[tuple[str, str]]]]) -> dict[tuple[str, str], Span]:
    """What is told of an image now holds from its first telling on; what is told no more, until the correction."""
    now = {(kind, one) for kind, labels in _told(row) for one in labels}
    spans: dict[tuple[str, str], Span] = {}
    for label in now.union(*(told for _, told in lines)):
        tellings = [at for at, told in lines if label in told]
        later = [at for at, _ in lines if tellings and at > tellings[-1]]
        if label in now:
            spans[label] = (tellings[0] if tellings else row["came"], STILL)
        elif later:
            spans[label] = (tellings[0], later[0])
    return spans


def _told(row: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The labels of a row by kind; several of one kind are told with a semicolon or a bar between them."""
    labels = labels_of(row["labels"])
    for kind in (*KINDS.values(), OTHER):
        text = (row["anatomy"] if kind == "anatomy" else labels.get(kind)) or ""
        yield kind, [one for one in _BETWEEN.split(text.strip()) if plain(one) and len(one) <= LONGEST]
