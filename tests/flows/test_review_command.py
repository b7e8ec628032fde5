"""Review: sheets out, verdicts in, all or none."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from medgr2.flows.cli import run
from medgr2.infra.settings import load_settings
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.errors import ExitCode


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    opened = open_workspace(load_settings())
    picture = io.BytesIO()
    Image.new("RGB", (32, 32)).save(picture, "PNG")
    image_id = opened.images.put(picture.getvalue())
    items, scores = [], []
    for n in range(1, 7):
        item_id = format(n, "x") * 64
        items.append(
            {
                "item_id": item_id, "image_id": image_id, "question_type": "Disease Diagnosis", "question": "Which?",
                "options": ["a", "b", "c", "d"], "answer": "A", "rationale": "It is a.", "origin": "generated",
            }
        )  # fmt: skip
        gated = n == 6
        scores.append(
            {"score_id": item_id, "item_id": item_id, "lp": None if gated else -n / 10, "verdict": "rejected"}
        )
    opened.lake.append_new("items", items, key="item_id")
    opened.lake.append_new("scores", scores, key="score_id")
    return opened


def test_out_to_people_and_back(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.jsonl"
    assert run(["review", "sample", "--n", "10", "--out", str(sheet)]) == 0
    rows = [json.loads(line) for line in sheet.read_text().splitlines()]
    assert {row["item_id"][0] for row in rows} == set("12345"), "what a gate refused is not asked about"
    assert all(Path(row["image"]).is_file() for row in rows)
    assert run(["review", "import", str(sheet)]) == ExitCode.DATA
    assert workspace.lake.read("reviews").num_rows == 0
    for number, row in enumerate(rows):
        row |= {"reviewer": "Dr. A", "valid": number % 2 == 0}
    sheet.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(["review", "import", str(sheet)]) == 0
    assert run(["review", "import", str(sheet)]) == 0
    assert "0 verdicts taken in, 5 known before" in capsys.readouterr().out
    assert workspace.lake.read("reviews").num_rows == 5
    assert run(["review", "sample", "--out", str(tmp_path / "again.jsonl")]) == ExitCode.NOT_FOUND


def test_a_sheet_is_not_overwritten_and_bad_lines_are_named(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.jsonl"
    sheet.write_text("precious")
    assert run(["review", "sample", "--out", str(sheet)]) == ExitCode.USAGE
    assert sheet.read_text() == "precious"
    assert run(["review", "import", str(sheet)]) == ExitCode.DATA
    assert "line 1" in capsys.readouterr().err
    assert run(["review", "import", str(tmp_path / "none")]) == ExitCode.NOT_FOUND
