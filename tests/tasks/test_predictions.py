"""Predictions leave in the layouts that other tools read, and those tools score them as we say that they do."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from documented_scorers import lmms_eval_scores, reference_vlmevalkit

from medgr2.models.prompts import parse_answer
from medgr2.schemas.errors import UsageError
from medgr2.schemas.vocabulary import LETTERS, Verdict
from medgr2.tasks import evaluate
from medgr2.tasks.evaluation_report import report
from medgr2.tasks.predictions import write
from medgr2.tasks.remembered import Remembered

MODEL = {"model_id": "m" * 64, "role": "policy", "method": "sft"}
NOBODY = Remembered()
FREE = ("The answer is {}.", "{}", "({}) because", "It must be {text}", "", "nothing of the kind", "A or B or C")
"""Replies of a model that was not taught our form: most can be read by somebody, none by us."""


@pytest.fixture
def heldout(room: Any) -> Any:
    return room.publish("heldout", [room.item(room.picture(i, split="heldout"), i, "human") for i in range(28)])


def rows_of(room: Any, heldout: Any, replies: Any) -> list[dict[str, Any]]:
    """Rows as an evaluation makes them, of replies that a test wrote. None is one that failed."""
    items = evaluate.read_heldout(room.lake, heldout)
    cells = evaluate.evaluate_cells(evaluate.evaluate_recipe(room.base), items, (evaluate.Condition.IMAGE,))
    outcomes = {}
    for number, (cell, row, _) in enumerate(cells):
        reply = replies(number, row)
        if reply is None:
            outcomes[cell.key] = evaluate.Outcome(key=cell.key, verdict=Verdict.FAILED, reasons=("deadline",))
        else:
            value = {"answer": parse_answer(reply, len(row["options"])), "reply": reply, "confidence": None}
            outcomes[cell.key] = evaluate.Outcome.accepted(cell, value)
    return evaluate.collect(cells, outcomes, model_id="m" * 64, heldout=heldout, run="r", count_failed=True)


def strict(number: int, row: dict[str, Any]) -> str:
    letter = row["answer"] if number % 3 else "ABCD"[number % 4]
    return f"<think>not A, or B, or {letter}.</think><answer>{letter}</answer>"


def mixed(number: int, row: dict[str, Any]) -> str | None:
    if number % 9 == 8:
        return None
    if number % 2:
        return strict(number, row)
    letter = row["answer"] if number % 4 else "D"
    return FREE[number % len(FREE)].format(letter, text=row["options"][LETTERS.index(letter)])


def read_tsv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f, delimiter="\t"))


def vlmevalkit_hits(path: Path) -> list[bool]:
    rows = read_tsv(path)
    options = [[row[letter] for letter in LETTERS if row[letter]] for row in rows]
    return [
        reference_vlmevalkit(row["prediction"], given) == row["answer"]
        for row, given in zip(rows, options, strict=True)
    ]


def test_the_layout_of_vlmevalkit(room: Any, heldout: Any, tmp_path: Path) -> None:
    rows = rows_of(room, heldout, mixed)
    written = write(room.lake, rows, tmp_path / "new", form="vlmevalkit", model=MODEL, on=heldout.ref)
    assert written.path.name == "policy-mmmmmmmmmmmm_heldout-1.tsv"
    told = read_tsv(written.path)
    assert list(told[0])[:12] == [
        "index", "question", "A", "B", "C", "D", "E", "answer", "category", "l2-category", "prediction", "item_id",
    ]  # fmt: skip
    assert [row["index"] for row in told] == [str(n) for n in range(28)]
    assert all(row["prediction"].strip() for row in told), "an empty prediction is read as a number that is none"
    by_id = {row["item_id"]: row for row in rows}
    for row in told:
        mine = by_id[row["item_id"]]
        assert row["answer"] == mine["key"]
        assert mine["answer"] is None or row["prediction"] == mine["answer"]
        assert "think>" not in row["prediction"]


@pytest.mark.parametrize("form", ["vlmevalkit", "lmms-eval"])
def test_of_readable_answers_everybody_has_the_same_accuracy(
    room: Any, heldout: Any, tmp_path: Path, form: str
) -> None:
    rows = rows_of(room, heldout, strict)
    found = report(room.lake, MODEL, heldout, rows, NOBODY, run="r")
    assert 0.5 < found.micro.value < 1
    assert found.micro.value == found.other_scorers.vlmevalkit == found.other_scorers.lmms_eval
    written = write(room.lake, rows, tmp_path, form=form, model=MODEL, on=heldout.ref)
    if form == "vlmevalkit":
        assert sum(vlmevalkit_hits(written.path)) / 28 == found.micro.value
    else:
        samples = [json.loads(line) for line in written.path.read_text().splitlines()]
        assert sum(s["filtered_resps"][0] == s["target"] for s in samples) / 28 == found.micro.value
        assert sum(s["exact_match"] for s in samples) / 28 == found.micro.value
        assert sum(lmms_eval_scores(written.path)) / 28 == found.micro.value


@pytest.mark.parametrize("form", ["vlmevalkit", "lmms-eval"])
def test_an_answer_that_we_misread_is_not_misread_by_others(room: Any, heldout: Any, tmp_path: Path, form: str) -> None:
    """What they score is the reply: were it our letter, they would agree with any parser, however wrong."""
    rows = rows_of(room, heldout, strict)
    true = report(room.lake, MODEL, heldout, rows, NOBODY, run="r").micro.value
    shifted = [row | {"answer": "ABCDA"["ABCD".index(row["answer"]) + 1]} for row in rows]
    misread = [row | {"correct": row["answer"] == row["key"]} for row in shifted]
    found = report(room.lake, MODEL, heldout, misread, NOBODY, run="r")
    assert found.micro.value < true == found.other_scorers.vlmevalkit == found.other_scorers.lmms_eval
    written = write(room.lake, misread, tmp_path, form=form, model=MODEL, on=heldout.ref)
    if form == "vlmevalkit":
        assert sum(vlmevalkit_hits(written.path)) / 28 == true
    else:
        samples = [json.loads(line) for line in written.path.read_text().splitlines()]
        assert sum(s["filtered_resps"][0] == s["target"] for s in samples) / 28 == true


def test_of_answers_that_we_can_not_read_others_read_more(room: Any, heldout: Any, tmp_path: Path) -> None:
    rows = rows_of(room, heldout, mixed)
    found = report(room.lake, MODEL, heldout, rows, NOBODY, run="r")
    assert found.failed == 3
    assert found.unreadable == 12
    assert found.micro.value < found.other_scorers.vlmevalkit < 1
    assert found.micro.value < found.other_scorers.lmms_eval < 1
    written = write(room.lake, rows, tmp_path, form="vlmevalkit", model=MODEL, on=heldout.ref)
    assert sum(vlmevalkit_hits(written.path)) / 28 == found.other_scorers.vlmevalkit


def test_the_installed_lmms_eval_agrees_on_those_as_well(room: Any, heldout: Any, tmp_path: Path) -> None:
    """Where it finds no letter it draws one: over many scorings that is what we say that it gets on average."""
    rows = rows_of(room, heldout, mixed)
    written = write(room.lake, rows, tmp_path, form="lmms-eval", model=MODEL, on=heldout.ref)
    scores = [lmms_eval_scores(written.path) for _ in range(40)]
    ours = report(room.lake, MODEL, heldout, rows, NOBODY, run="r").other_scorers.lmms_eval
    theirs = sum(map(sum, scores)) / (40 * 28)
    assert theirs == pytest.approx(ours, abs=0.05)
    steady = [column[0] for column in zip(*scores, strict=True) if len(set(column)) == 1]
    assert len(steady) >= 18, "what can be read is scored alike every time"


def test_an_unknown_layout_is_refused(room: Any, heldout: Any, tmp_path: Path) -> None:
    rows = rows_of(room, heldout, strict)
    with pytest.raises(UsageError, match="no layout of predictions"):
        write(room.lake, rows, tmp_path, form="xlsx", model=MODEL, on=heldout.ref)
