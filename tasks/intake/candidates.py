"""Candidates: what was read of a source, joined with what its labels say. Columns: there may be a million."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from medgr2.infra.sources import SourceFile
from medgr2.schemas.cells import Outcome
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.intake.labels import Labels

_S = pa.string()
PICTURES = pa.schema(
    {
        "file": pa.int32(), "image_id": _S, "width": pa.int32(), "height": pa.int32(), "bytes": pa.int64(),
        "media_type": _S, "part": _S, "burned_in": _S, "fingerprint": pa.binary(),
    }
)  # fmt: skip
FILES = pa.schema(
    {
        "file_id": _S, "size": pa.int64(), "stamp": _S, "content": _S, "verdict": _S, "reason": _S, "detail": _S,
        "found": _S, "header_modality": _S, "header_anatomy": _S, "header_patient": _S, "header_number": _S,
        "study": _S, "header": _S,
    }
)  # fmt: skip
TOLD = (
    "known", "modality", "anatomy", "diagnosis", "grade", "report", "source", "licence", "patient_key", "group_key",
    "split", "labels", "problem",
)  # fmt: skip


@dataclass(frozen=True)
class Candidates:
    """`files` has a row for every file of the source, `pictures` one for every picture, naming its file's row."""

    files: pa.Table
    pictures: pa.Table
    left_out: Counter[str]
    """Parts of files that were not taken, by reason."""
    persons: pa.ChunkedArray = field(repr=False)
    """How the labels of each file call its patient, raw: only to be looked for in its report. Never stored."""


@dataclass(frozen=True, slots=True)
class Read:
    """One file after reading."""

    file: SourceFile
    content: str
    outcome: Outcome | None
    """None where the file could not even be looked at."""
    reason: str = ""
    verdict: str = Verdict.FAILED.value
    detail: str = ""


class CandidatesBuilder:
    """Takes window after window, and keeps columns only."""

    def __init__(
        self, labels: Labels, file_id: Callable[[SourceFile], str], stamp: Callable[[SourceFile], str]
    ) -> None:
        self._labels = labels
        self._file_id = file_id
        self._stamp = stamp
        self._tables: list[pa.Table] = []
        self._pictures: list[pa.Table] = []
        self._persons: list[pa.Array] = []
        self._left_out: Counter[str] = Counter()
        self.files = 0
        self.failures: Counter[str] = Counter()

    def add(self, window: Sequence[Read]) -> None:
        files: dict[str, list[Any]] = {name: [] for name in FILES.names}
        pictures: dict[str, list[Any]] = {name: [] for name in PICTURES.names}
        for number, one in enumerate(window, start=self.files):
            self._take(number, one, files, pictures)
        names = [one.file.name for one in window]
        told = self._labels.of(names)
        table = pa.table(files, FILES)
        for name in TOLD:
            table = table.append_column(name, told[name])
        self._tables.append(table)
        self._pictures.append(pa.table(pictures, PICTURES))
        self._persons.append(pa.array(self._labels.persons(names), pa.list_(_S)))
        self.files += len(window)

    def done(self) -> Candidates:
        if not self._tables:
            self.add([])
        return Candidates(
            pa.concat_tables(self._tables), pa.concat_tables(self._pictures), self._left_out,
            pa.chunked_array(self._persons),
        )  # fmt: skip

    def _take(self, number: int, one: Read, files: dict[str, list[Any]], pictures: dict[str, list[Any]]) -> None:
        outcome = one.outcome
        value = (outcome.value if outcome else None) or {}
        row: dict[str, Any] = {
            "file_id": self._file_id(one.file), "size": one.file.size, "stamp": self._stamp(one.file),
            "content": one.content or value.get("content"),
            "verdict": outcome.verdict.value if outcome else one.verdict,
            "reason": (outcome.reasons[0] if outcome.reasons else "") if outcome else one.reason,
            "detail": outcome.detail if outcome else one.detail,
            "found": _json(value.get("found")), "header": _json(value.get("header")),
            "header_modality": value.get("modality"), "header_anatomy": value.get("anatomy"),
            "header_patient": value.get("patient"), "header_number": value.get("number"), "study": value.get("study"),
        }  # fmt: skip
        if row["verdict"] == Verdict.FAILED:
            self.failures[row["reason"]] += 1
        for name, column in files.items():
            column.append(row[name])
        self._left_out.update(value.get("left_out") or {})
        for picture in value.get("pictures", ()):
            for name, column in pictures.items():
                column.append(number if name == "file" else picture[name] if name != "fingerprint" else None)
            pictures["fingerprint"][-1] = base64.b64decode(picture["fingerprint"])


def _json(value: dict[str, Any] | None) -> str | None:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else None
