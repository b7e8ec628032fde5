"""A review sheet as it comes back, which may have been through a spreadsheet of any country: another separator and
encoding, a byte order mark, booleans in capitals, empty rows, columns of somebody's own."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.tasks.review_sample import Stratum
from medgr2.tasks.review_sheet import COLUMNS, check_ending

VALID = frozenset(("yes", "y", "valid", "true", "1", "1.0"))
INVALID = frozenset(("no", "n", "invalid", "not valid", "false", "0", "0.0"))
_DRAWN = re.compile(r"(\d{1,9}) of (\d{1,9})")
_SEPARATOR = re.compile(r"sep=(.)\s*$")


@dataclass(frozen=True)
class Row:
    """A judged row of a sheet and the line that it begins on."""

    line: int
    said: Mapping[str, Any]


@dataclass(frozen=True)
class Sheet:
    rows: tuple[Row, ...]
    problems: Mapping[int, str]
    """What is wrong with a line; then nothing of the sheet may be taken in."""
    open: int
    """Rows without a verdict: not judged yet."""
    notes: tuple[str, ...] = ()


def read_sheet(file: Path) -> Sheet:
    """The judged rows, and all that is wrong with any of them."""
    check_ending(file)
    if not file.is_file():
        raise NotFoundError("no such file", where=str(file), next_command="medgr2 review sample --out FILE.csv")
    text, notes = _text_of(file)
    found = _rows_of_csv(text, file) if file.suffix.lower() == ".csv" else _rows_of_jsonl(text)
    rows, problems, unjudged = [], {}, 0
    for line, fields in found:
        try:
            said = _said(fields)
        except ValueError as e:
            problems[line] = str(e)
            continue
        if said is None:
            unjudged += 1
        else:
            rows.append(Row(line, said))
    return Sheet(tuple(rows), problems, unjudged, notes)


def _said(fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a row says, None when it is not judged yet; a ValueError says what is wrong, and quotes no text."""
    if fields is None:
        raise ValueError("no JSON object")
    named = {str(name).strip().lower(): value for name, value in fields.items()}
    verdicts = {_verdict(_word(named, name)) for name in ("verdict", "valid")} - {None}
    if len(verdicts) > 1:
        raise ValueError("the columns 'verdict' and 'valid' contradict each other")
    if not verdicts:
        return None
    said: dict[str, Any] = {
        "item_id": _word(named, "item_id").lower(),
        "reviewer": _word(named, "reviewer"),
        "valid": verdicts.pop(),
        "reason": _word(named, "reason"),
    }
    return said | _drawn(_word(named, "stratum").lower(), _word(named, "drawn"))


def _verdict(word: str) -> bool | None:
    if not word:
        return None
    if word.lower() in VALID or word.lower() in INVALID:
        return word.lower() in VALID
    raise ValueError("the verdict is none of yes, no, valid, invalid, true, false, 1, 0")


def _drawn(stratum: str, drawn: str) -> dict[str, Any]:
    """Without them a verdict still calibrates; it only stands for nobody else."""
    if not stratum:
        return {}
    if stratum not in {s.value for s in Stratum}:
        raise ValueError("the stratum was changed: restore it, or empty it")
    if stratum != Stratum.RANDOM:
        return {"stratum": Stratum(stratum)}
    numbers = _DRAWN.fullmatch(drawn)
    taken, of = (int(n) for n in numbers.groups()) if numbers else (0, 0)
    if not 1 <= taken <= of:
        raise ValueError("'drawn' of a random item is not like '50 of 733': restore it, or empty the stratum too")
    return {"stratum": Stratum.RANDOM, "weight": of / taken}


def _word(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if isinstance(value, list | dict):
        raise ValueError(f"{name!r} is no text")
    return "" if value is None else str(value).strip()


def _rows_of_jsonl(text: str) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                found = None
            yield number, found if isinstance(found, dict) else None


def _rows_of_csv(text: str, file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = io.StringIO(text, newline="")
    first = lines.readline()
    told, above = _SEPARATOR.match(first), 1
    if told:
        first = lines.readline()
        above = 2
    names, separator = _header(first, told.group(1) if told else None, file)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        begins = above + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            raise DataError(
                "the quotation marks do not pair from here on",
                where=f"{file}, line {begins}",
                kept="no verdict of this sheet",
                next_command="save the sheet as CSV once more, from a spreadsheet",
            ) from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield begins, dict(zip(names, cells, strict=False))


def _header(line: str, separator: str | None, file: Path) -> tuple[list[str], str]:
    missing: list[str] = []
    for one in (separator,) if separator else (",", ";", "\t"):
        names = [name.strip().lower() for name in next(csv.reader([line], delimiter=one), [])]
        twice = [name for name in (*COLUMNS, "valid") if names.count(name) > 1]
        missing = [name for name in ("item_id", "verdict", "reviewer") if name not in names]
        if "valid" in names and "verdict" in missing:
            missing.remove("verdict")
        if not missing and not twice:
            return names, one
        if "item_id" in names:
            break
    raise DataError(
        f"columns are missing: {', '.join(missing)}" if missing else f"columns are there twice: {', '.join(twice)}",
        where=f"{file}, line 1",
        kept="no verdict of this sheet",
        next_command="keep the columns of the sheet that `medgr2 review sample` wrote; others may be added",
    )


def _text_of(file: Path) -> tuple[str, tuple[str, ...]]:
    data = file.read_bytes()
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise DataError(
            "this is a workbook, not a text file",
            where=str(file),
            kept="no verdict of this sheet",
            next_command="save it in the spreadsheet as CSV UTF-8, then import that file",
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), ()
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), ("not UTF-8: read as Windows-1252",)
