"""Public benchmarks as their authors publish them: pictures and questions in with one command, and never taught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ingest_helpers import KEY, hospital, label, picture

from medgr2.flows.cli import run
from medgr2.infra import versions
from medgr2.infra.lake import Lake
from medgr2.infra.settings import load_settings
from medgr2.infra.workspace import open_workspace
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, ExitCode
from medgr2.tasks.intake.audit import audit_splits
from medgr2.tasks.lessons import read_lessons, source_of

SIZE = (64, 64)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    for name, value in (
        ("STORAGE__ROOT", str(tmp_path / "root")), ("COMPUTE__MODE", "inline"), ("COMPUTE__FAILURE_LIMIT", "0.9"),
        ("PRIVACY__PATIENT_KEY", KEY),
    ):  # fmt: skip
        monkeypatch.setenv(f"MEDGR2_{name}", value)
    return Lake(load_settings().storage)


def ingest(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code = run(["ingest", *arguments, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def laid_out(folder: Path, tables: dict[str, Any], pictures: dict[str, bytes]) -> Path:
    for name, value in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    for name, data in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def omni(number: int, image: int, **more: Any) -> dict[str, Any]:
    return {
        "dataset": "Some CT", "question_id": f"Some CT_{number:04d}", "question_type": "Disease Diagnosis",
        "question": f"What is seen here, in question {number}?", "gt_answer": "Nodule",
        "image_path": f"Images/Some CT/{image}.png", "option_A": "Fracture", "option_B": "Nodule", "option_C": "Cyst",
        "option_D": "Nothing", "modality_type": "CT(Computed Tomography)", **more,
    }  # fmt: skip


@pytest.fixture
def omnimedvqa(tmp_path: Path) -> Path:
    rows = [omni(n, n % 4) for n in range(8)]
    rows += [omni(8, 9), omni(9, 1, gt_answer="Something else"), omni(3, 3), omni(10, 2, question_type="Palmistry")]
    pictures = {f"Images/Some CT/{n}.png": picture(n, SIZE) for n in range(4)}
    pictures["Images/Some CT/unasked.png"] = picture(50, SIZE)
    return laid_out(tmp_path / "OmniMedVQA", {"QA_information/Open-access/Some CT.json": rows}, pictures)


@pytest.mark.parametrize("layout", ["omnimedvqa", "auto"])
def test_omnimedvqa(lake: Lake, omnimedvqa: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    report = ingest(capsys, str(omnimedvqa), "--layout", layout)
    images = report["images"]
    assert (images["plan"]["found"], images["accepted"], images["reasons"]) == (5, 4, {"no_label": 1})
    assert report["versions"] == ["omnimedvqa@1"]
    questions = report["questions"]["omnimedvqa"]
    assert (questions["accepted"], questions["rejected"]) == (8, 0)
    left_out = report["questions_left_out"]
    assert sum(left_out.values()) + questions["plan"]["found"] == 12
    assert left_out == {"image_missing": 1, "answer_not_an_option": 1, "duplicate": 1, "no_question_type": 1}
    rows = lake.read("images").to_pylist()
    assert {(row["modality"], row["source"], row["split"]) for row in rows} == {("CT", "Some CT", "heldout")}
    items = lake.read("items").to_pylist()
    assert len(items) == 8
    assert {(row["origin"], row["rationale"], row["answer"]) for row in items} == {("human", "", "B")}
    again = ingest(capsys, str(omnimedvqa), "--layout", layout)
    assert again["images"]["plan"]["new"] == 0
    assert again["versions"] == ["omnimedvqa@1"]
    assert lake.read("items").num_rows == 8
    assert audit_splits(open_workspace()).violations == 0


def test_its_questions_are_refused_by_every_training(
    lake: Lake, omnimedvqa: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(capsys, str(omnimedvqa), "--layout", "omnimedvqa")
    version = versions.resolve(lake, "omnimedvqa")
    with pytest.raises(DataError, match="omnimedvqa is for exams"):
        read_lessons(lake, [source_of(version)])
    versions.publish(lake, dataset="nightly", add=versions.members(lake, version), card={}, run="by mistake")
    with pytest.raises(DataError, match="no training may see"):
        read_lessons(lake, [source_of(versions.resolve(lake, "nightly"))])
    assert run(["audit", "splits", "--json"]) == ExitCode.DATA
    assert run(["refresh", "--dataset", "omnimedvqa"]) == ExitCode.USAGE


def test_a_question_without_a_rationale_is_no_lesson(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hospital(tmp_path / "in", [label("a.png"), label("b.png")], {"a.png": picture(1), "b.png": picture(2)})
    asked = {
        "question_type": "Disease Diagnosis",
        "question": "What is seen?",
        "options": ["cyst", "scar"],
        "answer": "A",
    }
    rows = [{"file": "a.png", **asked, "rationale": ""}, {"file": "b.png", **asked, "rationale": "A cyst."}]
    (tmp_path / "in" / "seed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ingest(capsys, str(folder), "--seed", str(folder / "seed.jsonl"))
    assert report["questions"]["seed"]["reasons"] == {"no_rationale": 1}
    assert [row["rationale"] for row in lake.read("items").to_pylist()] == ["A cyst."]


def test_a_benchmark_image_that_was_trained_on_is_not_taken_for_an_exam(
    lake: Lake, tmp_path: Path, omnimedvqa: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One picture of it came in before as our own, for training: the questions about it are left out, with a reason."""
    own = hospital(tmp_path / "own", [label("own.png", split="train")], {"own.png": picture(0, SIZE)})
    ingest(capsys, str(own))
    report = ingest(capsys, str(omnimedvqa), "--layout", "omnimedvqa")
    assert report["images"]["reasons"]["split_was_otherwise"] == 1
    assert report["questions"]["omnimedvqa"]["reasons"] == {"image_is_train": 2}
    assert report["questions"]["omnimedvqa"]["accepted"] == 6
    assert audit_splits(open_workspace()).violations == 0


def rad(number: int, image: int, **more: Any) -> dict[str, Any]:
    return {
        "qid": number, "image_name": f"synpic{image}.jpg", "image_organ": "CHEST", "answer": "Yes",
        "question": f"Is there an effusion in {number}?", "question_type": "PRES", "answer_type": "CLOSED",
        "phrase_type": "freeform", "image_case_url": f"https://medpix.nlm.nih.gov/case?id={image // 2}", **more,
    }  # fmt: skip


def test_vqa_rad(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its images are asked about in lessons and exams of its own: what is examined on never trains."""
    rows = [rad(n, n % 6, phrase_type="test_freeform" if n % 6 < 2 else "freeform") for n in range(12)]
    rows += [rad(12, 0, answer_type="OPEN", answer="pleural"), rad(13, 1, image_name="synpic77.jpg")]
    folder = laid_out(
        tmp_path / "VQA-RAD", {"VQA_RAD Dataset Public.json": rows},
        {f"VQA_RAD Image Folder/synpic{n}.jpg": picture(60 + n, SIZE, "JPEG") for n in range(6)},
    )  # fmt: skip
    report = ingest(capsys, str(folder), "--layout", "vqa-rad")
    assert (report["images"]["accepted"], report["images"]["failed"]) == (6, 0)
    assert report["questions_left_out"] == {"open_ended": 1, "image_missing": 1}
    held = {row["image_id"]: row for row in lake.read("images").to_pylist()}
    assert {(row["modality"], row["anatomy"]) for row in held.values()} == {("X-Ray", "chest")}
    exam = {sha256_hex(picture(60 + n, SIZE, "JPEG")) for n in (0, 1)}
    examined = {image for image, row in held.items() if row["split"] == "heldout"}
    assert exam <= examined
    questions = report["questions"]["vqa-rad"]
    assert questions["accepted"] + questions["rejected"] == 12
    items = lake.read("items").to_pylist()
    assert {row["image_id"] for row in items} <= examined
    assert {tuple(row["options"]) for row in items} == {("Yes", "No")}
    assert audit_splits(open_workspace()).violations == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--layout", "omnimedvqb"], ExitCode.USAGE, "omnimedvqa, vqa-rad"),
        (["--layout", "slake"], ExitCode.NOT_FOUND, "no slake here"),
        (["--layout", "omnimedvqa", "--labels", "x.csv"], ExitCode.USAGE, "brings its own labels"),
    ],
)
def test_a_layout_that_cannot_be_used(
    lake: Lake, omnimedvqa: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: ExitCode, says: str
) -> None:
    assert run(["ingest", str(omnimedvqa), *arguments]) == code
    said = capsys.readouterr().err
    assert says in said
    assert "kept:" in said or code == ExitCode.USAGE
    assert lake.read("images").num_rows == 0


def test_auto_finds_no_layout_in_a_plain_folder(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = hospital(tmp_path / "in", [label("a.png")], {"a.png": picture(1)})
    assert run(["ingest", str(folder), "--layout", "auto"]) == ExitCode.NOT_FOUND
    assert "--labels" in capsys.readouterr().err
