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
LEDGER_FACTS = ("modality", "anatomy", "diagnosis", "grade", "attributes")
"""What a line of the table `files` says of its pictures, in this order."""
LONGEST = 80
"""Characters: what is longer is a description, and no option."""
KINDS = {QuestionType.ANATOMY: "anatomy", QuestionType.DISEASE: "diagnosis", QuestionType.GRADING: "grade"}
OTHER = "attributes"
_BETWEEN = re.compile(r"\s*[;|]\s*")
_ALIKE = ["source", "modality", "anatomy", "labels"]
_Place = tuple[str | None, str | None, str]
_Telling = tuple[str | None, str, str]
"""A label with its modality and its kind."""
_Line = tuple[int, str, set[_Telling]]
"""When which file told what of an image."""


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
        for modality, kind, label, span in _spans(row, lines[image]):
            known[row["source"], modality, kind][label].add(span)
    asked = held.filter(pc.is_in(held["image_id"], value_set=pa.array(images, pa.string())))
    came_at = dict(zip(asked["image_id"].to_pylist(), asked["came"].to_pylist(), strict=True))
    return Pools(came_at | told_at, known)


def _ledger(lake: Lake) -> pa.Table:
    """A line for each picture that a line of `files` names."""
    files = lake.read("files", ["file_id", "images", "facts", "seen_at"]).combine_chunks()
    lists = files["images"].combine_chunks() if files.num_rows else pa.array([], pa.list_(pa.string()))
    of = pc.list_parent_indices(lists)
    return pa.table(
        {
            "image_id": pc.list_flatten(lists),
            "file_id": files["file_id"].take(of),
            "facts": files["facts"].take(of),
            "seen_at": pc.cast(files["seen_at"].take(of), pa.int64()),
        }
    )


def _lines(ledger: pa.Table) -> dict[str, list[_Line]]:
    """By image, what was told of it when, the oldest first."""
    lines: dict[str, list[_Line]] = defaultdict(list)
    for line in ledger.sort_by("seen_at").to_pylist():
        facts = dict(zip(LEDGER_FACTS, json.loads(line["facts"] or "[]"), strict=False))
        told = _tellings({"modality": None, "anatomy": None, **facts, "labels": json.dumps(facts)})
        lines[line["image_id"]].append((line["seen_at"], line["file_id"], told))
    return lines


def _told_since(row: Mapping[str, Any], lines: Sequence[_Line]) -> int:
    """Since when what is told of an image now is told: pictures may be there long before their labels, and would else
    never be offered one. When an image's own facts change, its cells are new ones anyway."""
    now = {telling for telling in _tellings(row) if telling[1] != OTHER}
    return min((at for at, _, told in lines if told == now), default=row["came"])


def _spans(row: Mapping[str, Any], lines: Sequence[_Line]) -> Iterator[tuple[str | None, str, str, Span]]:
    """From when until when what was ever told of an image was: until its file told otherwise, and again from when it
    told the same again, so that a correction changes nothing of what was offered before it."""
    now = _tellings(row)
    for telling in now.union(*(told for _, _, told in lines)):
        spans = [span for of_file in _by_file(lines) for span in _times(telling, of_file)]
        if telling in now and not any(until == STILL for _, until in spans):
            spans.append((max((until for _, until in spans), default=row["came"]), STILL))
        elif telling not in now:
            # A further file of the same picture may tell it for ever: it counts until anybody tells otherwise.
            later = [at for at, _, told in lines if telling not in told]
            closed = [(at, min((t for t in later if t > at), default=at) if to == STILL else to) for at, to in spans]
            spans = [(at, to) for at, to in closed if at < to]
        yield from ((*telling, span) for span in spans)


def _by_file(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    of_file: dict[str, list[_Line]] = defaultdict(list)
    for line in lines:
        of_file[line[1]].append(line)
    yield from of_file.values()


def _times(telling: _Telling, lines: Sequence[_Line]) -> Iterator[Span]:
    """When one file told it."""
    began: int | None = None
    for at, _, told in lines:
        if telling in told and began is None:
            began = at
        elif telling not in told and began is not None:
            yield began, at
            began = None
    if began is not None:
        yield began, STILL


def _tellings(row: Mapping[str, Any]) -> set[_Telling]:
    return {(row["modality"], kind, label) for kind, labels in _told(row) for label in labels}


def _told(row: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The labels of a row by kind; several of one kind are told with a semicolon or a bar between them."""
    labels = labels_of(row["labels"])
    for kind in (*KINDS.values(), OTHER):
        text = (row["anatomy"] if kind == "anatomy" else labels.get(kind)) or ""
        yield kind, [one for one in _BETWEEN.split(text.strip()) if plain(one) and len(one) <= LONGEST]
