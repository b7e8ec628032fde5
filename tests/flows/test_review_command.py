"""Review as a person does it: sheets out, verdicts in, all or none; and what is told where something is missing."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from medgr2.flows.cli import run
from medgr2.infra.settings import load_settings
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.calibration import FEATURES
from medgr2.schemas.errors import ExitCode

SCORER = "5" * 64
ITEMS, GATED = 60, 3
TAU = 0.7


def item_id(n: int) -> str:
    return f"{n:064x}"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Sixty scored drafts and three that a gate refused, about two pictures, without a calibration."""
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    opened = open_workspace(load_settings())
    image_ids = []
    for kind in ("PNG", "JPEG"):
        picture = io.BytesIO()
        Image.new("RGB", (32, 32)).save(picture, kind)
        image_ids.append(opened.images.put(picture.getvalue()))
    items = [
        {
            "item_id": item_id(n), "image_id": image_ids[n % 2], "question_type": "Disease Diagnosis",
            "question": "Which?", "options": ["a", "b", "c", "d"], "answer": "B", "rationale": "It is b.",
            "origin": "generated", "run": "nightly/one" if n >= 10 else "nightly/zero",
        }
        for n in range(ITEMS + GATED)
    ]  # fmt: skip
    images = [{"image_id": image_id, "split": "train", "report": "Jane Doe was seen"} for image_id in image_ids]
    opened.lake.append_new("images", images, key="image_id")
    opened.lake.append_new("items", items, key="item_id")
    score(opened, calibration=None)
    return opened


def signals(n: int) -> dict[str, float]:
    others = dict.fromkeys((signal for signal, _ in FEATURES.values()), (n % 5) / 5)
    return others | {"lp": -10.0 / (1 + n), "agree": (n % 8) / 8}


def score(workspace: Workspace, *, calibration: str | None) -> None:
    """Item n has a better lp and p(valid) the higher n is."""
    rows = []
    for n in range(ITEMS + GATED):
        scored = n < ITEMS
        p = n / ITEMS if scored and calibration else None
        rows.append(
            {
                "score_id": f"{calibration}{n}", "item_id": item_id(n), "scorer": SCORER, "calibration": calibration,
                **(signals(n) if scored else {}), "p_valid": p,
                "tau": TAU, "verdict": "accepted" if p is not None and p >= TAU else "rejected", "run": "nightly/one",
                "scored_at": datetime(2026, 1, 1 if calibration is None else 2, tzinfo=UTC),
            }
        )  # fmt: skip
    workspace.lake.append_new("scores", rows, key="score_id")


def rows_of(sheet: Path) -> list[dict[str, Any]]:
    if sheet.suffix == ".jsonl":
        return [json.loads(line) for line in sheet.read_text().splitlines()]
    return list(csv.DictReader(io.StringIO(sheet.read_bytes().decode("utf-8-sig"), newline="")))


def fill_in(sheet: Path, verdict: Callable[[int], str], reviewer: str = "Dr. A", separator: str = ",") -> None:
    rows = [row | {"verdict": verdict(int(row["item_id"], 16)), "reviewer": reviewer} for row in rows_of(sheet)]
    if sheet.suffix == ".jsonl":
        sheet.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    with sheet.open("w", encoding="utf-8-sig", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def status(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["review", "status", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("name", ["sheet.jsonl", "sheet.csv"])
def test_out_to_people_and_back(
    workspace: Workspace, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / name
    assert run(["review", "sample", "--out", str(sheet)]) == 0
    assert "no calibration yet" in capsys.readouterr().out
    rows = rows_of(sheet)
    assert {int(row["item_id"], 16) for row in rows} == set(range(ITEMS)), "what a gate refused is not asked about"
    assert {row["stratum"] for row in rows} == {"spread"}
    for row in rows:
        picture = Path(row["image"])
        with Image.open(picture) as opened:
            opened.load()
            assert picture.suffix == {"PNG": ".png", "JPEG": ".jpg"}[str(opened.format)]
        assert picture.stat().st_mode & 0o777 == 0o600
        assert picture.parent.stat().st_mode & 0o777 == 0o700
        assert row["key"] == "B: b"
    assert sheet.stat().st_mode & 0o777 == 0o600
    assert "Jane" not in sheet.read_text()

    assert run(["review", "import", str(sheet)]) == ExitCode.DATA
    assert "no row is judged yet: 60" in capsys.readouterr().err
    fill_in(sheet, lambda n: "" if n >= 50 else "valid" if n >= 25 else "invalid")
    assert run(["review", "import", str(sheet)]) == 0
    said = capsys.readouterr().out
    assert "50 verdicts taken in, 0 known before, 10 rows not judged yet" in said
    assert "50 audits allow" in said
    assert "in force: no calibration" in said
    assert "medgr2 refresh --dataset nightly --night one" in said
    assert run(["review", "import", str(sheet)]) == 0
    assert "0 verdicts taken in, 50 known before" in capsys.readouterr().out
    assert workspace.lake.read("reviews").num_rows == 50
    assert run(["review", "sample", "--out", str(tmp_path / "again.csv")]) == 0
    assert "only 10 drafts are left" in capsys.readouterr().out


def test_strata_once_there_is_a_calibration(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(workspace, calibration="c" * 64)
    first, second = tmp_path / "one.csv", tmp_path / "two.jsonl"
    for sheet in (first, second):
        assert run(["review", "sample", "--n", "20", "--out", str(sheet)]) == 0
        assert "near-tau 10, random 5, top 5" in capsys.readouterr().out
    assert [row["item_id"] for row in rows_of(first)] == [row["item_id"] for row in rows_of(second)]
    drawn = {row["stratum"]: row["drawn"] for row in rows_of(first)}
    assert drawn == {"near-tau": "", "random": "5 of 18", "top": ""}
    random = [int(row["item_id"], 16) for row in rows_of(first) if row["stratum"] == "random"]
    fill_in(first, lambda n: "no" if n == random[0] else "yes", separator=";")
    assert run(["review", "import", str(first)]) == 0
    assert "4 of 5 drawn at random were valid" in capsys.readouterr().out
    found = status(capsys)
    assert found["precision"]["value"] == pytest.approx(0.8)
    assert found["precision"]["low"] == pytest.approx(0.376, abs=0.001)  # Wilson, 4 of 5
    assert found["in_force"] == "c" * 64
    assert run(["review", "sample", "--n", "60", "--out", str(tmp_path / "all.csv")]) == 0
    said = capsys.readouterr().out
    assert "note: random" in said
    assert "note: only 40 drafts are left" in said


def test_one_night_alone(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.jsonl"
    assert run(["review", "sample", "--run", "nightly/zero", "--out", str(sheet)]) == 0
    assert {int(row["item_id"], 16) for row in rows_of(sheet)} == set(range(10))
    assert run(["review", "sample", "--run", "nightly/two", "--out", str(tmp_path / "s.csv")]) == ExitCode.NOT_FOUND
    assert "no scored draft of nightly/two" in capsys.readouterr().err


def test_without_scikit_learn_verdicts_come_in(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.csv"
    run(["review", "sample", "--out", str(sheet)])
    for reviewer in ("Dr. A", "Dr. B"):
        fill_in(sheet, lambda n: "valid" if n % 2 else "invalid", reviewer)
        for name in ("sklearn.metrics", "sklearn.model_selection", "sklearn.linear_model"):
            monkeypatch.setitem(sys.modules, name, None)
        assert run(["review", "import", str(sheet)]) == 0
    said = capsys.readouterr().out
    assert "no kappa: scikit-learn is missing: pip install 'medgr2[models]'" in said
    assert "none can be fitted: scikit-learn is missing" in said
    assert workspace.lake.read("reviews").num_rows == 120


def test_no_audits_yet(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["review", "status"]) == 0
    said = capsys.readouterr().out
    assert "no verdicts yet" in said
    assert "0 audits are too few to calibrate: at least 20 are needed" in said
    found = status(capsys)
    assert (found["verdicts"], found["agreements"], found["precision"], found["in_force"]) == (0, [], None, None)


def test_an_empty_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    assert run(["review", "status"]) == 0
    assert "nothing is scored yet" in capsys.readouterr().out
    assert run(["review", "sample", "--out", str(tmp_path / "s.csv")]) == ExitCode.NOT_FOUND
    assert list(tmp_path.glob("s*")) == []


def test_all_audits_of_one_class(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.csv"
    run(["review", "sample", "--out", str(sheet)])
    fill_in(sheet, lambda _: "valid")
    assert run(["review", "import", str(sheet)]) == 0, "the verdicts are worth having all the same"
    said = capsys.readouterr().out
    assert "none can be fitted: 60 of 60 audited items are valid: at least 3 of each kind are needed" in said
    assert "precision of the accepted: not known" in said


def test_an_unknown_item_and_other_bad_rows_are_all_named(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(
        "item_id;verdict;reviewer\r\n"
        f"{item_id(1)};yes;Dr. A\r\n"
        f"{'f' * 64};yes;Dr. A\r\n"
        ";;\r\n"
        f"{item_id(2)};perhaps;Dr. A\r\n"
        f"{item_id(3)};no;\r\n"
        f"1,00E+63;no;Dr. A\r\n"
        f"{item_id(1)};no;Dr. A\r\n"
    )
    assert run(["review", "import", str(sheet)]) == ExitCode.DATA
    said = capsys.readouterr().err
    assert "5 of 6 verdicts cannot be taken in" in said
    for line, what in ((3, "not in the lake"), (5, "verdict"), (6, "reviewer"), (7, "item_id"), (8, "in line 2")):
        assert any(f"line {line}:" in told and what in told for told in said.splitlines()), (line, said)
    assert "kept:  no verdict of this import" in said
    assert "next:" in said
    assert workspace.lake.read("reviews").num_rows == 0


def test_contradictory_reviewers_are_no_error(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.jsonl"
    run(["review", "sample", "--out", str(sheet)])
    fill_in(sheet, lambda n: "valid" if n >= 30 else "invalid", "Dr. A")
    assert run(["review", "import", str(sheet)]) == 0
    fill_in(sheet, lambda n: "" if n >= 40 else "valid" if n % 2 else "invalid", "dr. a")
    assert run(["review", "import", str(sheet)]) == 0
    said = capsys.readouterr().out
    assert "Dr. A and dr. a: the same of 20 of 40 shared items, kappa 0.000" in said
    assert "20 tied, which count for nothing" in said
    assert "reviewers that may be one person: Dr. A = dr. a" in said
    assert "40 audits allow" in said, "a tie does not calibrate"
    found = status(capsys)
    assert (found["settled"], found["tied"], found["reviewers"]) == (40, 20, {"Dr. A": 60, "dr. a": 40})
    fill_in(sheet, lambda _: "valid", "Dr. A")
    assert run(["review", "import", str(sheet)]) == ExitCode.DATA
    assert capsys.readouterr().err.count("said the opposite") == 30


def test_a_reviewer_takes_verdicts_back(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.csv"
    run(["review", "sample", "--out", str(sheet)])
    fill_in(sheet, lambda n: "valid" if n >= 30 else "invalid")
    assert run(["review", "import", str(sheet)]) == 0
    before = status(capsys)["refit"]
    fill_in(sheet, lambda n: "valid" if n >= 20 else "invalid")
    assert run(["review", "import", str(sheet)]) == ExitCode.DATA
    assert "with --corrects" in capsys.readouterr().err.split("next:")[1]
    assert run(["review", "import", str(sheet), "--corrects"]) == 0
    said = capsys.readouterr().out
    assert "10 verdicts taken in (10 of them corrections), 50 known before" in said
    assert "60 verdicts on 60 items by 1 reviewer(s): Dr. A 60" in said
    assert "60 items settled, 40 of them valid" in said
    assert "10 earlier verdicts were taken back" in said
    found = status(capsys)
    assert (found["verdicts"], found["valid"], found["taken_back"]) == (60, 40, 10)
    assert found["refit"]["audits"] == before["audits"] == 60
    assert found["refit"]["calibration"] != before["calibration"]
    assert run(["review", "import", str(sheet), "--corrects"]) == 0
    assert "0 verdicts taken in, 60 known before" in capsys.readouterr().out
    assert workspace.lake.read("reviews").num_rows == 70
    assert run(["explain", item_id(25), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["reviews"]
    assert [(row["valid"], row["taken_back"]) for row in told] == [(False, True), (True, False)]


def test_signals_that_are_no_numbers_do_not_calibrate(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.csv"
    run(["review", "sample", "--out", str(sheet)])
    rows = [
        {"score_id": f"nan{n}", "item_id": item_id(n), "scorer": SCORER, **signals(n), "agree": float("nan"),
         "tau": TAU, "verdict": "rejected", "scored_at": datetime(2026, 1, 3, tzinfo=UTC)}
        for n in range(50)
    ]  # fmt: skip
    workspace.lake.append_new("scores", rows, key="score_id")
    fill_in(sheet, lambda n: "valid" if n % 2 else "invalid")
    assert run(["review", "import", str(sheet)]) == 0
    assert "10 audits are too few" in capsys.readouterr().out


def test_a_sheet_is_not_overwritten_and_slips_are_named(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.jsonl"
    sheet.write_text("precious")
    assert run(["review", "sample", "--out", str(sheet)]) == ExitCode.USAGE
    assert sheet.read_text() == "precious"
    assert not (tmp_path / "sheet-pictures").exists()
    assert run(["review", "import", str(sheet)]) == ExitCode.DATA
    assert "line 1: no JSON object" in capsys.readouterr().err
    assert run(["review", "import", str(tmp_path / "none.csv")]) == ExitCode.NOT_FOUND
    assert run(["review", "sample", "--out", str(tmp_path / "sheet.xlsx")]) == ExitCode.USAGE
    assert run(["review", "sample", "--out", str(tmp_path / "no" / "sheet.csv")]) == ExitCode.USAGE
    assert "no such folder" in capsys.readouterr().err
