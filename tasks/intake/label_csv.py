"""Labels in CSV, as hospitals have it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.csv as pa_csv

from medgr2.schemas.errors import DataError
from medgr2.tasks.intake.columns import NOTHING, known
from medgr2.tasks.intake.label_text import text_digest

MAX_VALUE = 1 << 20
DELIMITERS = (",", ";", "\t", "|")


class CsvLabels:
    """BOM, ';' or tabs, CRLF, quoted line breaks, empty lines at the end, 'sep=;' on top."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.digest, quotes = text_digest(path)
        self._open_quote = quotes % 2 == 1
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
            where = self.place(ragged[0] - 2) if ragged[0] else str(self._path)  # Arrow's 1 is the header
            raise DataError(
                f"a row does not have {len(self.names)} values{many}", where=where, kept=NOTHING,
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
