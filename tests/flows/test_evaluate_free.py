"""VQA-RAD, SLAKE and PathVQA as their authors lay them out and ask them, through the real commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documented_scorers import reference_slake
from ingest_helpers import KEY, picture

from medgr2.flows.cli import run
from medgr2.infra.lake import Lake
from medgr2.infra.settings import load_settings
from medgr2.models.engines.seam import Completion, Request
from medgr2.schemas.errors import ExitCode
from medgr2.tasks.evaluate_free import FreeWorker

SIZE = (64, 64)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    for name, value in (
        ("STORAGE__ROOT", str(tmp_path / "root")), ("COMPUTE__MODE", "inline"), ("PRIVACY__PATIENT_KEY", KEY),
    ):  # fmt: skip
        monkeypatch.setenv(f"MEDGR2_{name}", value)
    return Lake(load_settings().storage)


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = run([*arguments, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def laid_out(folder: Path, tables: dict[str, Any], pictures: list[str]) -> Path:
    files = {name: json.dumps(value).encode() for name, value in tables.items()}
    files |= {
        name: picture(200 + n, SIZE, "PNG" if name.endswith("png") else "JPEG") for n, name in enumerate(pictures)
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def vqa_rad(folder: Path) -> Path:
    """Heads are CT or MRI, and the file does not say which; the exam asks about them all the same."""
    rows = [
        {
            "qid": n, "image_name": f"synpic{n % 4}.jpg", "image_organ": "HEAD" if n % 4 < 2 else "CHEST",
            "question": f"Is there a mass, {n}?", "question_type": "PRES", "phrase_type": "test_freeform",
            "image_case_url": f"https://example.org/case{n % 4}",
            **({"answer": "No", "answer_type": "CLOSED"} if n % 2 else {"answer": "left lobe", "answer_type": "OPEN"}),
        }
        for n in range(8)
    ]  # fmt: skip
    rows.append({**rows[0], "qid": 90, "phrase_type": "freeform", "question": "Of the lessons' part?"})
    return laid_out(
        folder, {"VQA_RAD Dataset Public.json": rows}, [f"VQA_RAD Image Folder/synpic{n}.jpg" for n in range(4)]
    )


def slake(folder: Path) -> Path:
    rows = [
        {
            "img_id": n, "img_name": f"xmlab{n % 3}/source.jpg", "question": f"What is in picture {n}?", "q_lang": "en",
            "location": "Lung", "modality": ("CT", "MRI", "X-Ray")[n % 3], "base_type": "vqa", "qid": n,
            "content_type": ("Organ", "KG")[n // 3 % 2], "answer": ("Left", "Lung, heart")[n % 2],
            "answer_type": ("CLOSED", "OPEN")[n % 2],
        }
        for n in range(9)
    ]  # fmt: skip
    chinese = {**rows[0], "qid": 50, "q_lang": "zh", "question": "?", "answer": "?"}
    tables = {"test.json": [*rows, chinese], "train.json": [{**rows[0], "qid": 60, "img_name": "xmlab9/source.jpg"}]}
    return laid_out(folder, tables, [f"imgs/xmlab{n}/source.jpg" for n in (0, 1, 2, 9)])


def pathvqa(folder: Path) -> Path:
    """Pictures of every modality and of none that is ours, and no kind of question."""
    rows = [
        {"image": f"test_{n:04}", "question": f"is it malignant, {n}?", "answer": ("yes", "a plasma cell")[n % 2]}
        for n in range(6)
    ]
    rows.append({"image": "train_0001", "question": "of the lessons?", "answer": "yes"})
    return laid_out(
        folder,
        {"test_qa.json": rows[:6], "train_qa.json": rows[6:]},
        [f"images/test/test_{n:04}.jpg" for n in range(6)],
    )


@pytest.mark.parametrize(
    ("name", "make", "counts"),
    [("vqa-rad", vqa_rad, (4, 4)), ("slake", slake, (5, 4)), ("pathvqa", pathvqa, (3, 3))],
)
def test_closed_and_open_questions_are_scored_apart(
    lake: Lake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    make: Callable[[Path], Path],
    counts: tuple[int, int],
) -> None:
    taken = typed(capsys, "ingest", str(make(tmp_path / name)), "--layout", name)
    assert taken["free_questions"] == {"held": sum(counts)}
    again = typed(capsys, "ingest", str(tmp_path / name), "--layout", name)
    assert again["free_questions"] == taken["free_questions"]
    assert lake.read("free_questions").num_rows == sum(counts)

    keys = {row["question"]: row["answer"] for row in lake.read("free_questions").to_pylist()}

    def reply(request: Request) -> Completion:
        """Right of the pictures themselves, now and then; never of the grey ones, or of none."""
        asked = request.text.split("\n")[0]
        unseen = request.sightless or "grey" in str(request.image_path)
        answer = "nothing" if unseen else keys[asked]
        text = f"<think>so</think><answer>{answer}</answer>" if not asked.endswith(" 1?") else "<answer>cut off"
        return Completion(text, True, 5)

    class Engine:
        def complete(self, requests: list[Request]) -> list[list[Completion]]:
            return [[reply(request)] for request in requests]

    def begin(self: FreeWorker, recipe: Any, settings: Any) -> None:
        really(self, recipe, settings)
        self._engine = Engine()  # type: ignore[assignment]

    really = FreeWorker.__init__
    monkeypatch.setattr(FreeWorker, "__init__", begin)
    out = tmp_path / "out"
    (found,) = typed(capsys, "evaluate", "base", "--on", name, "--export", str(out), "--format", "lmms-eval")
    assert (found["n"], found["closed"]["n"], found["open"]["n"]) == (sum(counts), *counts)
    assert found["unreadable"] == 1, "one reply was cut off: wrong, and counted"
    assert found["overall"]["value"] == pytest.approx((sum(counts) - 1) / sum(counts))
    assert found["blank"]["value"] == found["blind"]["value"] == 0.0
    parts = found["closed"]["n"] * found["closed"]["accuracy"]["value"] + counts[1] * found["open"]["exact"]["value"]
    assert parts == pytest.approx(sum(counts) - 1)
    assert found["open"]["f1"]["value"] <= 1
    (export,) = out.iterdir()
    samples = [json.loads(line) for line in export.read_text().splitlines()]
    assert sum(s["exact_match"] for s in samples) == sum(counts) - 1
    scored = [reference_slake(s["filtered_resps"][0], s["target"]) for s in samples]
    assert sum(scored) / len(scored) == found["overall"]["value"]


def test_the_base_itself_is_asked_and_stands_in_the_tables(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(capsys, "ingest", str(slake(tmp_path / "slake")), "--layout", "slake")
    assert run(["evaluate", "base", "--on", "slake", "--longest", "12"]) == 0
    said = capsys.readouterr()
    assert "evaluate-free: 36 new" in said.err
    assert "closed" in said.out
    assert "open, token F1" in said.out
    rows = lake.read("evals").to_pylist()
    assert len(rows) == 36
    assert {row["condition"] for row in rows} == {"image", "blind", "blank", "swapped"}
    assert run(["evaluate", "base", "--on", "slake", "--longest", "12"]) == 0
    assert "evaluate-free: 0 new, 36 reused" in capsys.readouterr().err
    assert run(["evaluate", "base", "--on", "slake", "--samples", "4"]) == ExitCode.USAGE
    assert "asked without options" in capsys.readouterr().err


def test_pictures_that_are_no_exam_need_a_modality_still(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"image": "train_0001", "question": "is it malignant?", "answer": "yes"}]
    folder = laid_out(tmp_path / "p", {"train_qa.json": rows}, ["images/train/train_0001.jpg"])
    assert typed(capsys, "ingest", str(folder), "--layout", "pathvqa")["images"]["reasons"] == {"no_modality": 1}
    assert lake.read("images").num_rows == 0
