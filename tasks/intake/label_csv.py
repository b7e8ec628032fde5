"""Labels in CSV, as hospitals have it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.csv as pa_csv

from medgr2.schemas.errors import DataError
from medgr2.tasks.intake.columns import NOTHING, known
from medgr2.tasks.intake.label_text import text_digest

MAX_VALUE = 1 << 20
DELIMITERS = (",", ";", "\t", "|")


def _skipped(row: pa_csv.InvalidRow) -> str:
    """Whether a row may be skipped was asked before Arrow reads."""
    del row
    return "skip"


class CsvLabels:
    """BOM, ';' or tabs, CRLF, quoted line breaks, empty lines at the end, 'sep=;' on top."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.digest = text_digest(path)
        self._skip, self._delimiter, self.names = self._header()
        twice = sorted({name for name in self.names if name and self.names.count(name) > 1})
        if twice:
            # Without a header these are a patient's values.
            which = f"column {' and '.join(map(repr, twice))}" if any(map(known, self.names)) else "column of one name"
            raise DataError(
                f"the labels have more than one {which}",
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
        self._skip = skip
        readings: dict[str, list[str]] = {}
        for self._delimiter in (delimiter,) if delimiter else DELIMITERS:
            # With another delimiter than its own, a quoted header is no CSV at all.
            with suppress(DataError):
                readings[self._delimiter] = next(record for _, record in self._records())
        if not readings:
            self._unreadable("its first line cannot be read")
        best = max(readings, key=lambda one: len(readings[one]))
        return skip, best, tuple(name.strip() for name in readings[best])

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if self._rows() == 0:
            return  # Arrow takes a header without a line break for a torn file
        wanted = [str(self.names.index(name)) for name in names]
        every = [str(n) for n in range(len(self.names))]
        try:
            reader = pa_csv.open_csv(
                self._path,
                read_options=pa_csv.ReadOptions(
                    use_threads=False, column_names=every, skip_rows=self._skip, skip_rows_after_names=1,
                    block_size=4 * MAX_VALUE,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=_skipped
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(every, pa.string()), include_columns=wanted, strings_can_be_null=False,
                ),
            )  # fmt: skip
            for batch in reader:
                if batch.num_rows:
                    yield pa.RecordBatch.from_arrays(batch.columns, names=list(names))
        except pa.ArrowInvalid:
            # Arrow quotes the row, which may name a patient.
            self._unreadable("a row is longer than four megabytes")

    def place(self, row: int) -> str:
        # The header is a record too. Arrow left out rows of delimiters alone, where they are too few or too many.
        whole = (line for line, record in self._records() if len(record) == len(self.names))
        return f"{self._path}, line {next(islice(whole, row + 1, None), 0)}"

    def _rows(self) -> int:
        """How many there are. Quotes must close and no value be missing: others would stand under its heading."""
        ragged, first, rows = 0, 0, -1
        for line, record in self._records():
            rows += 1
            # Sheets end in rows of delimiters alone.
            if len(record) != len(self.names) and any(value.strip() for value in record):
                ragged, first = ragged + 1, first or line
        if ragged:
            many = f" (and {ragged - 1} more)" if ragged > 1 else ""
            raise DataError(
                f"a row does not have {len(self.names)} values{many}",
                where=f"{self._path}, line {first}", kept=NOTHING,
                next_command="quote values that hold the delimiter, and export again",
            )  # fmt: skip
        return rows

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """All records that are not empty lines, the header too, with the line each begins on."""
        csv.field_size_limit(MAX_VALUE)
        with self._path.open(newline="", encoding="utf-8-sig") as f:
            for _ in range(self._skip):
                f.readline()
            reader = csv.reader(f, delimiter=self._delimiter, strict=True)
            line = 1
            try:
                for record in reader:
                    if record:
                        yield line + self._skip, record
                    line = reader.line_num + 1
            except csv.Error as e:
                why = "a quote is never closed" if "unexpected end" in str(e) else str(e)
                self._unreadable(f"{why}, in the record that begins on line {line + self._skip}")

    def _unreadable(self, why: str) -> NoReturn:
        raise DataError(
            f"the labels are no readable CSV{': ' + why if why else ''}", where=str(self._path), kept=NOTHING,
            next_command="export them again as 'CSV UTF-8'",
        ) from None  # fmt: skip
