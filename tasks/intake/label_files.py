"""The three kinds of file that labels come in, read in batches of text: what is written stays as written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.tasks.intake.columns import NOTHING
from medgr2.tasks.intake.label_csv import CsvLabels
from medgr2.tasks.intake.label_text import file_digest, text_digest

BATCH = 32_768
BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What Arrow raises on a Parquet file that is none, or no longer."""
KINDS = ".csv, .tsv, .txt, .parquet, .jsonl or .ndjson"


class LabelFile(Protocol):
    """`names` are the columns there are; `batches` gives the wanted ones as text, '' and null meaning nothing."""

    names: tuple[str, ...]
    digest: str

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]: ...

    def place(self, row: int) -> str:
        """Where a person finds the row (counted from 0 over all batches)."""
        ...


def open_labels(path: Path) -> LabelFile:
    if not path.is_file():
        raise NotFoundError(
            "no labels file", where=str(path), kept=NOTHING, next_command="medgr2 ingest FOLDER --labels FILE.csv"
        )
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return ParquetLabels(path)
    if suffix in (".jsonl", ".ndjson"):
        return JsonLinesLabels(path)
    if suffix in (".csv", ".tsv", ".txt"):
        return CsvLabels(path)
    hint = "save the sheet as 'CSV UTF-8'" if suffix.startswith(".xls") else f"convert it to {KINDS}"
    raise DataError(
        f"labels come as {KINDS}, not as {suffix or 'a file without an ending'}",
        where=str(path), kept=NOTHING, next_command=hint,
    )  # fmt: skip


class ParquetLabels:
    """Numbers, dates and categories become the text they would print as; nested columns cannot be mapped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.digest = file_digest(path)
        try:
            with pq.ParquetFile(path) as file:
                self._schema = file.schema_arrow
            self.names = tuple(self._schema.names)
        except BROKEN:
            raise DataError("the labels are no readable Parquet", where=str(path), kept=NOTHING) from None
        if len(set(self.names)) < len(self.names):
            raise DataError("the labels have two columns of one name", where=str(path), kept=NOTHING)

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for name in names:
            kind = self._schema.field(name).type
            if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                raise DataError(
                    f"the column {name!r} is of type {kind}, not text", where=str(self._path), kept=NOTHING,
                    next_command="write it as text, or do not map it",
                )  # fmt: skip
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(BATCH, columns=list(names)):
                    batch.validate(full=True)  # Arrow reads strings that are no UTF-8 without a word
                    arrays = [batch.column(name).cast(pa.string()) for name in names]
                    yield pa.RecordBatch.from_arrays(arrays, names=list(names))
        except BROKEN:
            raise DataError("the labels are no readable Parquet", where=str(self._path), kept=NOTHING) from None

    def place(self, row: int) -> str:
        return f"{self._path}, row {row + 1}"


class JsonLinesLabels:
    """One object a line. Numbers stay as they are written; lists and objects become JSON text."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.digest = text_digest(path)
        names: dict[str, None] = {}
        for _, row in self._rows():
            names.update(dict.fromkeys(_text(name) or "" for name in row))
        self.names = tuple(names)
        if not names:
            raise DataError("the labels are empty", where=str(path), kept=NOTHING)

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        held: list[list[str | None]] = [[] for _ in names]
        for _, row in self._rows():
            for values, name in zip(held, names, strict=True):
                values.append(_text(row.get(name)))
            if len(held[0]) == BATCH:
                yield _batch(held, names)
                held = [[] for _ in names]
        if held[0]:
            yield _batch(held, names)

    def place(self, row: int) -> str:
        for number, (line, _) in enumerate(self._rows()):
            if number == row:
                return f"{self._path}, line {line}"
        return str(self._path)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line, parse_int=str, parse_float=str)
                except (ValueError, RecursionError):
                    row = None
                if not isinstance(row, dict):
                    where = f"{self._path}, line {number}"
                    raise DataError("a line of the labels is no JSON object", where=where, kept=NOTHING)
                yield number, row


def _batch(held: list[list[str | None]], names: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, pa.string()) for values in held], names=list(names))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        # Lone surrogates can be written in JSON and are no text.
        return value.encode("utf-8", "replace").decode() if value else None
    return json.dumps(value, sort_keys=True, ensure_ascii=True)
