"""A review sheet as it goes out to people: CSV for spreadsheets, or JSON lines; for its owner's eyes alone.

`drawn` is written as '50 of 733', beside the weight, because a spreadsheet may make a date of 14.66, and leaves
that alone.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medgr2.schemas.errors import UsageError
from medgr2.schemas.vocabulary import LETTERS
from medgr2.tasks.review_sample import Asked

TO_FILL_IN = ("verdict", "reason", "reviewer")
COLUMNS = (
    "item_id", "stratum", "drawn", "weight", "image", "question_type", "question", "options", "key", "rationale",
    *TO_FILL_IN,
)  # fmt: skip
ENDINGS = (".csv", ".jsonl")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def row_of(asked: Asked, item: Mapping[str, Any], image: Path) -> dict[str, Any]:
    """What a clinician needs to judge. No p(valid): who is told what to expect finds it."""
    options = [f"{letter}: {option}" for letter, option in zip(LETTERS, item["options"], strict=False)]
    return {
        "item_id": asked.item_id,
        "stratum": asked.stratum.value,
        "drawn": f"{asked.taken} of {asked.of}" if asked.weight is not None else "",
        "weight": asked.weight,
        "image": str(image),
        "question_type": item["question_type"],
        "question": item["question"],
        "options": options,
        "key": options[LETTERS.index(item["answer"])],
        "rationale": item["rationale"],
        **dict.fromkeys(TO_FILL_IN, ""),
    }


def check_ending(file: Path) -> None:
    if file.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"a sheet ends in {' or '.join(ENDINGS)}", where=str(file), next_command="name it so; CSV for a spreadsheet"
        )


def write_sheet(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """For the eyes of its owner alone, and never over a file that is there: verdicts may be in it."""
    check_ending(file)
    data = _csv(rows) if file.suffix.lower() == ".csv" else _jsonl(rows)
    try:
        made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise exists(file) from None
    except OSError as e:
        raise UsageError(f"cannot write the sheet: {e.strerror}", where=str(file)) from None
    try:
        with os.fdopen(made, "wb") as f:
            f.write(data)
    except OSError:
        file.unlink(missing_ok=True)  # half a sheet looks like a whole one
        raise


def exists(file: Path) -> UsageError:
    return UsageError(f"{file} exists already", next_command="give another --out: verdicts may be in it")


def _csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row[name]) for name in COLUMNS})
    return text.getvalue().encode("utf-8-sig")  # a spreadsheet takes it for another encoding without the mark


def _cell(value: Any) -> str:
    text = "\n".join(value) if isinstance(value, list) else "" if value is None else str(value)
    # A model wrote the question: a spreadsheet must show it and not run it.
    return f"'{text}" if text.startswith(_FORMULA) else text


def _jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(
        json.dumps({name: row[name] for name in COLUMNS}, ensure_ascii=False) + "\n" for row in rows
    ).encode()
