"""Questions of people: the good ones become a dataset, the others are listed, and no exam leaks into the lessons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ingest_helpers import hospital, label, picture, settings

from medgr2.infra.versions import members, resolve
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.schemas.intake import IntakeParameters
from medgr2.tasks.intake.ingest import ingest
from medgr2.tasks.questions import questions_in, take_questions

GOOD = {
    "question_type": "Disease Diagnosis", "question": "What is seen?", "options": ["cyst", "nodule", "scar", "none"],
    "answer": "B", "rationale": "A round nodule.",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [label("a.png"), label("b.png"), label("held.png", split="heldout")]
    return hospital(tmp_path / "in", rows, {name["file"]: picture(n) for n, name in enumerate(rows)})


@pytest.fixture
def workspace(tmp_path: Path, folder: Path) -> Workspace:
    opened = open_workspace(settings(tmp_path))
    ingest(opened, str(folder), "", IntakeParameters(reports="keep"), run="test", announce=lambda plan: None)
    return opened


def ask(workspace: Workspace, folder: Path, rows: list[Any], dataset: str = "seed") -> Any:
    file = folder / "questions.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return take_questions(workspace, questions_in(file), file.parent, dataset, run="test", announce=lambda plan: None)


def test_good_questions_become_a_version_and_bad_ones_are_listed(workspace: Workspace, folder: Path) -> None:
    report, version = ask(
        workspace,
        folder,
        [
            {"file": "a.png", **GOOD},
            {"file": "b.png", **GOOD},
            {"file": "a.png", **GOOD, "answer": "E"},
            {"file": "a.png", **GOOD, "question_type": "Palmistry"},
            {"file": "held.png", **GOOD},
            {"file": "gone.png", **GOOD},
            "{ torn",
        ],
    )
    assert (report.accepted, report.rejected) == (2, 5)
    assert report.reasons == {
        "schema:item": 1, "schema:question_type": 1, "image_is_heldout": 1, "no_such_image": 1, "not_a_question": 1,
    }  # fmt: skip
    assert version.ref == "seed@1"
    rows = workspace.lake.read("items", where={"item_id": members(workspace.lake, version)}).to_pylist()
    assert {row["origin"] for row in rows} == {"human"}


def test_again_is_the_same_version(workspace: Workspace, folder: Path) -> None:
    rows = [{"file": "a.png", **GOOD}]
    ask(workspace, folder, rows)
    report, version = ask(workspace, folder, rows)
    assert (report.plan.new, version.version) == (0, 1)


def test_the_held_out_set_takes_held_out_images_only(workspace: Workspace, folder: Path) -> None:
    rows = [{"file": "held.png", **GOOD}, {"file": "a.png", **GOOD}]
    report, _ = ask(workspace, folder, rows, "heldout")
    assert report.reasons == {"image_is_train": 1}
    assert resolve(workspace.lake, "heldout").items == 1


def test_nothing_usable_is_an_error(workspace: Workspace, folder: Path) -> None:
    with pytest.raises(DataError, match="no usable question"):
        ask(workspace, folder, [{"file": "held.png", **GOOD}])
    with pytest.raises(NotFoundError, match="no questions file"):
        list(questions_in(folder / "none.jsonl"))
