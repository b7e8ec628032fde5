"""The three kinds of file that labels come in, read in batches of text: what is written stays as written."""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.tasks.intake.columns import NOTHING

BATCH = 32_768
MAX_VALUE = 1 << 20
DELIMITERS = (",", ";", "\t", "|")
KINDS = ".csv, .tsv, .txt, .parquet, .jsonl or .ndjson"
_CHUNK = 1 << 22


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


class CsvLabels:
    """CSV as hospitals have it: BOM, ';' or tabs, CRLF, quoted line breaks, empty lines at the end, 'sep=;' on top."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.digest, quotes = _text_digest(path)
        self._open_quote = quotes % 2 == 1
        self._skip, self._delimiter, self.names = self._header()
        twice = sorted({name for name in self.names if name and self.names.count(name) > 1})
        if twice:
            raise DataError(
                f"the labels have more than one column {' and '.join(map(repr, twice))}",
                where=f"{path}, line {self._skip + 1}", kept=NOTHING, next_command="rename one of them in the file",
            )  # fmt: skip

    def _header(self) -> tuple[int, str, tuple[str, ...]]:
        skip, delimiter = 0, None
        with self._path.open(newline="", encoding="utf-8-sig") as f:
            first = ""
            while not first.strip() and (line := f.readline(MAX_VALUE)):
                if line.lower().startswith("sep=") and len(line.strip()) <= 5:
                    delimiter, line = line.rstrip("\r\n")[4:] or None, ""
                first = line
                skip += not first.strip()
            if not first.strip():
                raise DataError("the labels are empty", where=str(self._path), kept=NOTHING)
        readings = {one: self._first_record(one, skip) for one in ([delimiter] if delimiter else DELIMITERS)}
        best = max(readings, key=lambda one: len(readings[one]))
        return skip, best, tuple(name.strip() for name in readings[best])

    def _first_record(self, delimiter: str, skip: int) -> list[str]:
        with self._path.open(newline="", encoding="utf-8-sig") as f:
            for _ in range(skip):
                f.readline()
            try:
                return next(csv.reader(f, delimiter=delimiter))
            except csv.Error as e:
                self._unreadable(str(e))

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        wanted = [str(self.names.index(name)) for name in names]
        every = [str(n) for n in range(len(self.names))]
        ragged: list[int | None] = []

        def invalid(row: pa_csv.InvalidRow) -> str:
            # Sheets end in rows of delimiters alone. Anything else would put values under the wrong heading.
            if (row.text or "").strip(self._delimiter + " \t\r\n"):
                ragged.append(row.number)
            return "skip"

        try:
            reader = pa_csv.open_csv(
                self._path,
                read_options=pa_csv.ReadOptions(
                    use_threads=False, column_names=every, skip_rows=self._skip, skip_rows_after_names=1,
                    block_size=4 * MAX_VALUE,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=invalid
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(every, pa.string()), include_columns=wanted, strings_can_be_null=False,
                ),
            )  # fmt: skip
            last: pa.RecordBatch | None = None
            for batch in reader:
                if batch.num_rows:
                    last = batch
                    yield pa.RecordBatch.from_arrays(batch.columns, names=list(names))
        except pa.ArrowInvalid as e:
            # Arrow quotes the row, which may name a patient.
            self._unreadable("a value is too long, or a quote is never closed" if "straddl" in str(e) else "")
        if ragged:
            many = f" (and {len(ragged) - 1} more)" if len(ragged) > 1 else ""
            at = f", record {ragged[0]}" if ragged[0] else ""
            raise DataError(
                f"a row does not have {len(self.names)} values{many}", where=f"{self._path}{at}", kept=NOTHING,
                next_command="quote values that hold the delimiter, and export again",
            )  # fmt: skip
        if self._open_quote and last is not None and any("\n" in (c[-1].as_py() or "") for c in last.columns):
            self._unreadable("a quote is opened and never closed")

    def place(self, row: int) -> str:
        with self._path.open(newline="", encoding="utf-8-sig") as f:
            for _ in range(self._skip):
                f.readline()
            reader = csv.reader(f, delimiter=self._delimiter)
            seen, line = -2, 1
            for record in reader:
                seen += bool(record)
                if seen == row:
                    break
                line = reader.line_num + 1
        return f"{self._path}, line {line + self._skip}"

    def _unreadable(self, why: str) -> NoReturn:
        raise DataError(
            f"the labels are no readable CSV{': ' + why if why else ''}", where=str(self._path), kept=NOTHING,
            next_command="export them again as 'CSV UTF-8'",
        ) from None  # fmt: skip


class ParquetLabels:
    """Numbers, dates and categories become the text they would print as; nested columns cannot be mapped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.digest = _digest(path)
        try:
            with pq.ParquetFile(path) as file:
                self._schema = file.schema_arrow
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError):
            raise DataError("the labels are no readable Parquet", where=str(path), kept=NOTHING) from None
        self.names = tuple(self._schema.names)
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
                    arrays = [batch.column(name).cast(pa.string()) for name in names]
                    yield pa.RecordBatch.from_arrays(arrays, names=list(names))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError):
            raise DataError("the labels are no readable Parquet", where=str(self._path), kept=NOTHING) from None

    def place(self, row: int) -> str:
        return f"{self._path}, row {row + 1}"


class JsonLinesLabels:
    """One object a line. Numbers stay as they are written; lists and objects become JSON text."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.digest, _ = _text_digest(path)
        names: dict[str, None] = {}
        for _, row in self._rows():
            names.update(dict.fromkeys(row))
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


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _text_digest(path: Path) -> tuple[str, int]:
    """One pass over the bytes: their hash, that they are UTF-8 without NUL, and how many quotes there are."""
    digest, quotes, done = hashlib.sha256(), 0, 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as f:
        while True:
            data = f.read(_CHUNK)
            if not done and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                _not_utf8(path, 0, "they are UTF-16, which Excel calls 'Unicode text'")
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError as e:
                _not_utf8(path, done - pending + e.start, "")
            if (zero := data.find(b"\0")) >= 0:
                _not_utf8(path, done + zero, "a zero byte")
            if not data:
                return digest.hexdigest(), quotes
            digest.update(data)
            quotes += data.count(b'"')
            done += len(data)


def _not_utf8(path: Path, byte: int, why: str) -> NoReturn:
    raise DataError(
        f"the labels are not UTF-8 text{': ' + why if why else ''}", where=f"{path}, byte {byte}", kept=NOTHING,
        next_command="save them as 'CSV UTF-8', or: iconv -f CP1252 -t UTF-8 FILE > FILE.utf8.csv",
    ) from None  # fmt: skip
