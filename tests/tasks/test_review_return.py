"""What comes back from a spreadsheet, whatever it did to the file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from medgr2.schemas.errors import DataError, Medgr2Error, NotFoundError, UsageError
from medgr2.tasks.review_return import Sheet, read_sheet
from medgr2.tasks.review_sample import Asked, Stratum
from medgr2.tasks.review_sheet import row_of, write_sheet

ID = "a" * 64
ITEM = {
    "question_type": "Disease Diagnosis", "question": "=cmd|' /C calc'!A0",
    "options": ["nodule", "cyst; small", "a,b", "d"],
    "answer": "B", "rationale": "Line one.\nLine \"two\".",
}  # fmt: skip


def sheet_of(path: Path, data: str | bytes, name: str = "sheet.csv") -> Sheet:
    file = path / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_sheet(file)


def verdicts(sheet: Sheet) -> list[Any]:
    return [row.said["valid"] for row in sheet.rows]


@pytest.mark.parametrize("name", ["sheet.csv", "sheet.jsonl"])
def test_what_goes_out_comes_back(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    asked = [Asked(ID, Stratum.RANDOM, 50, 733), Asked("b" * 64, Stratum.TOP), Asked("c" * 64, Stratum.NEAR_TAU)]
    rows = [row_of(one, ITEM, tmp_path / "x.png") for one in asked]
    write_sheet(file, rows)
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_sheet(file) == Sheet((), {}, 3)
    with pytest.raises(UsageError, match="exists already"):
        write_sheet(file, rows)
    file.unlink()
    filled = [row | {"verdict": v, "reviewer": "Dr. Ä"} for row, v in zip(rows, ("valid", "", "invalid"), strict=True)]
    write_sheet(file, filled)
    found = read_sheet(file)
    assert (found.problems, found.open, verdicts(found)) == ({}, 1, [True, False])
    assert found.rows[0].said == {
        "item_id": ID, "reviewer": "Dr. Ä", "valid": True, "reason": "", "stratum": Stratum.RANDOM, "weight": 733 / 50,
    }  # fmt: skip
    assert found.rows[1].said["stratum"] is Stratum.NEAR_TAU


def test_a_spreadsheet_shows_a_question_and_does_not_run_it(tmp_path: Path) -> None:
    write_sheet(tmp_path / "s.csv", [row_of(Asked(ID, Stratum.TOP), ITEM, tmp_path / "x.png")])
    data = (tmp_path / "s.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf"), "a spreadsheet knows UTF-8 by its mark only"
    (row,) = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    assert row["question"] == "'" + str(ITEM["question"])
    assert row["key"] == "B: cyst; small"
    assert row["options"].split("\n") == ["A: nodule", "B: cyst; small", "C: a,b", "D: d"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_encodings_and_line_ends(tmp_path: Path, separator: str, encoding: str, end: str) -> None:
    lines = [
        separator.join(("Mine", "ITEM_ID", " Verdict", "reviewer", "reason")),
        separator.join(("x", ID, "TRUE", "Dr. Müller", '"a multi')),
        'line reason"',
        separator * 4,
        separator.join(("", "b" * 64, "", "", "")),
        separator.join(("", "c" * 64, "falsch", "Dr. Müller", "")),
        "",
        separator.join(("", "d" * 64, "no", "Dr. Müller")),
    ]
    found = sheet_of(tmp_path, end.join(lines).encode(encoding))
    assert [(row.line, row.said["valid"]) for row in found.rows] == [(2, True), (8, False)]
    assert {row.said["reviewer"] for row in found.rows} == {"Dr. Müller"}
    assert found.rows[0].said["reason"].split() == ["a", "multi", "line", "reason"]
    assert list(found.problems) == [6]
    assert found.open == 1
    assert bool(found.notes) == (encoding == "cp1252")


def test_a_first_line_that_names_the_separator(tmp_path: Path) -> None:
    found = sheet_of(tmp_path, f"sep=;\r\nitem_id;verdict;reviewer\r\n{ID};1;ann\r\n{ID};perhaps;ann\r\n")
    assert [row.line for row in found.rows] == [3]
    assert list(found.problems) == [4]


@pytest.mark.parametrize(
    ("word", "valid"),
    [
        ("yes", True), ("Y", True), ("VALID", True), ("True", True), ("1", True), ("1.0", True), (True, True),
        ("no", False), ("N", False), (" Invalid ", False), ("FALSE", False), ("0", False), (0.0, False), (False, False),
        ("not valid", False), (1, True),
    ],
)  # fmt: skip
def test_words_for_a_verdict(tmp_path: Path, word: object, valid: bool) -> None:
    row = {"item_id": ID, "verdict": word, "reviewer": "ann"}
    assert verdicts(sheet_of(tmp_path, json.dumps(row), "s.jsonl")) == [valid]
    assert verdicts(sheet_of(tmp_path, f"item_id,verdict,reviewer\n{ID},{word},ann")) == [valid]


@pytest.mark.parametrize("word", ["maybe", "2", "0.5", "valid?", "null", "ja"])
def test_any_other_word_is_a_problem_and_not_a_guess(tmp_path: Path, word: str) -> None:
    found = sheet_of(tmp_path, f"item_id,verdict,reviewer\n{ID},{word},ann")
    assert list(found.problems) == [2]
    assert word not in found.problems[2].split()


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_empty_is_not_judged_yet(tmp_path: Path, empty: object) -> None:
    row = {"item_id": ID, "verdict": empty, "reviewer": "ann", "reason": "cannot tell"}
    assert sheet_of(tmp_path, json.dumps(row), "s.jsonl") == Sheet((), {}, 1)


def test_the_older_column_valid_counts_too_but_not_against_verdict(tmp_path: Path) -> None:
    assert verdicts(sheet_of(tmp_path, json.dumps({"item_id": ID, "valid": True, "reviewer": "a"}), "s.jsonl")) == [
        True
    ]
    assert verdicts(sheet_of(tmp_path, f"item_id,valid,reviewer\n{ID},no,a")) == [False]
    assert list(sheet_of(tmp_path, f"item_id,valid,verdict,reviewer\n{ID},no,yes,a").problems) == [2]


def test_lines_that_are_no_objects(tmp_path: Path) -> None:
    good = json.dumps({"item_id": ID, "verdict": "yes", "reviewer": "a\u2028b"}, ensure_ascii=False)
    deep = '{"verdict": ' + "[" * 100_000
    data = "\ufeff" + "\n".join([good, "{", "[1]", "", "3", '{"verdict": ["yes"]}', deep])
    found = sheet_of(tmp_path, data, "s.jsonl")
    assert (len(found.rows), sorted(found.problems)) == (1, [2, 3, 5, 6, 7])


@pytest.mark.parametrize(
    ("stratum", "drawn"),
    [("random", "14.66"), ("random", ""), ("random", "0 of 5"), ("random", "6 of 5"), ("mine", "")],
)
def test_a_changed_stratum_is_a_problem_and_an_emptied_one_is_none(tmp_path: Path, stratum: str, drawn: str) -> None:
    head = "item_id,verdict,reviewer,stratum,drawn\n"
    assert list(sheet_of(tmp_path, f"{head}{ID},yes,a,{stratum},{drawn}").problems) == [2]
    (row,) = sheet_of(tmp_path, f"{head}{ID},yes,a,,{drawn}").rows
    assert "stratum" not in row.said


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK\x03\x04 and more", "workbook"),
        (b"", "columns are missing: item_id, verdict, reviewer"),
        (b"item_id;reviewer\n", "columns are missing: verdict"),
        (b"item_id,verdict,verdict,reviewer\n", "there twice: verdict"),
        (b'item_id,verdict,reviewer\nx,yes,"ann\ny,no,bob\n', "quotation marks"),
    ],
)
def test_what_is_no_sheet_is_refused_whole(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        sheet_of(tmp_path, data)


def test_other_endings_and_no_file(tmp_path: Path) -> None:
    for name, kind in (("sheet.xlsx", UsageError), ("none.csv", NotFoundError)):
        with pytest.raises(Medgr2Error) as refused:
            read_sheet(tmp_path / name)
        assert isinstance(refused.value, kind)
        assert refused.value.next_command
