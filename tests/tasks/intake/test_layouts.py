"""Benchmark layouts: small faithful samples give labels and questions, and every row is taken or has a reason."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medgr2.schemas.errors import NotFoundError, UsageError
from medgr2.schemas.items import Draft
from medgr2.tasks.intake.benchmarks import BENCHMARKS
from medgr2.tasks.intake.layouts import Layout, detect, layout


def hashed(source: str, person: str) -> str:
    return f"<{source}|{person}>"


def write(folder: Path, files: dict[str, Any], images: list[str]) -> Path:
    for name, value in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value, indent=1), encoding="utf-8")
    for name in images:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    return folder


def found(folder: Path, name: str) -> Layout:
    laid_out = detect(folder)
    assert laid_out is not None
    assert laid_out.name == name
    assert laid_out == layout(folder, name)
    return laid_out


def account(laid_out: Layout) -> tuple[list[dict[str, Any]], Counter[str], dict[str, dict[str, Any]]]:
    labels, counts = laid_out.read(hashed)
    questions = list(laid_out.questions())
    assert counts.rows == counts.taken + counts.left_out.total()
    assert counts.taken == len(questions)
    for question in questions:
        assert (laid_out.folder / question["file"]).is_file()
        Draft(rationale="a person's", **{k: question[k] for k in ("question", "options", "answer")})
    files = sorted({row.file for row in laid_out.rows() if row.file})
    return questions, counts.left_out, {row["file"]: row for row in labels.of(files).to_pylist()}


def omni(number: int, **more: Any) -> dict[str, Any]:
    return {
        "dataset": "Some CT", "question_id": f"Some CT_{number:04d}", "question_type": "Disease Diagnosis",
        "question": "What is seen here?", "gt_answer": "Nodule", "image_path": f"Images/Some CT/{number}.png",
        "option_A": "Fracture", "option_B": "Nodule", "option_C": "Cyst", "option_D": "Nothing",
        "modality_type": "CT(Computed Tomography)", **more,
    }  # fmt: skip


def test_omnimedvqa(tmp_path: Path) -> None:
    rows = [
        omni(0), omni(1, option_E="Fluid", gt_answer="Fluid"), omni(2, question_type="lesion grading"),
        omni(3, gt_answer="Tumour"), omni(4, option_A="Nodule"), omni(5, question_type="Weather"),
        omni(0), omni(6, image_path="../secret.png"), omni(7), ["no object"], {"question": "?"},
        omni(8, gt_answer=None), omni(9, option_A=None, option_C=None, option_D=None),
    ]  # fmt: skip
    odd = {**omni(1, dataset="Chest", question_id="Chest_1", image_path="Images/Chest/1.png"), "modality": "X-Ray"}
    del odd["modality_type"]
    folder = write(
        tmp_path,
        {"QA_information/Open-access/Some CT.json": rows, "QA_information/Restricted-access/Chest.json": [odd]},
        [f"Images/Some CT/{n}.png" for n in (0, 1, 2, 3, 4, 5, 6, 8, 9)] + ["Images/Chest/1.png"],
    )
    questions, left_out, labels = account(found(folder, "omnimedvqa"))
    assert questions[0] == {
        "file": "Images/Some CT/0.png", "question_type": "Disease Diagnosis", "question": "What is seen here?",
        "options": ["Fracture", "Nodule", "Cyst", "Nothing"], "answer": "B", "rationale": "",
    }  # fmt: skip
    assert [q["answer"] for q in questions] == ["B", "E", "B", "B"]
    assert questions[2]["question_type"] == "Lesion Grading"
    assert left_out == {
        "answer_not_an_option": 1, "answer_ambiguous": 1, "no_question_type": 1, "duplicate": 1, "unsafe_path": 1,
        "image_missing": 1, "not_an_object": 1, "missing:image": 1, "missing:gt_answer": 1, "no_options": 1,
    }  # fmt: skip
    assert (labels["Images/Some CT/3.png"]["modality"], labels["Images/Chest/1.png"]["modality"]) == ("CT", "X-Ray")
    assert labels["Images/Some CT/3.png"]["source"] == "Some CT"
    assert {row["split"] for row in labels.values()} == {"heldout"}  # all of it is an exam
    assert {row["licence"] for row in labels.values()} == {None}


def test_a_modality_that_is_not_ours_is_a_problem_of_the_image(tmp_path: Path) -> None:
    rows = [omni(0), omni(1, modality_type="Endoscopy"), omni(2), omni(2, question_id="2b", modality_type="MR")]
    folder = write(tmp_path, {"QA_information/Open-access/a.json": rows}, [])
    _, _, labels = account(found(folder, "omnimedvqa"))
    assert [labels[f"Images/Some CT/{n}.png"]["problem"] for n in range(3)] == [None, "unknown_modality", "two_labels"]


def rad(qid: int, **more: Any) -> dict[str, Any]:
    return {
        "qid": qid, "phrase_type": "freeform", "qid_linked_id": "x", "image_case_url": "https://example.org/case1",
        "image_name": "synpic1.jpg", "image_organ": "CHEST", "evaluation": "evaluated", "question": "Is it enlarged?",
        "question_rephrase": "NULL", "question_relation": "NULL", "question_frame": "NULL", "question_type": "PRES",
        "answer": "Yes", "answer_type": "CLOSED ", **more,
    }  # fmt: skip


def test_vqa_rad(tmp_path: Path) -> None:
    rows = [
        rad(1), rad(2, answer="no", question_type="ABN, POS"), rad(3, answer="left", answer_type="CLOSED"),
        rad(4, answer=4, answer_type="OPEN", question_type="COUNT"), rad(5, question_type="PLANE"), rad(1),
        rad(6, image_name="synpic2.jpg", image_organ="HEAD", phrase_type="test_para", image_case_url="case2"),
        rad(7, image_name="synpic2.jpg", image_organ="HEAD", image_case_url="case2"), rad(8, image_name="gone.jpg"),
    ]  # fmt: skip
    folder = write(
        tmp_path, {"VQA_RAD Dataset Public.json": rows}, [f"VQA_RAD Image Folder/synpic{n}.jpg" for n in (1, 2)]
    )
    questions, left_out, labels = account(found(folder, "vqa-rad"))
    assert [(q["options"], q["answer"], q["question_type"]) for q in questions[:2]] == [
        (["Yes", "No"], "A", "Disease Diagnosis"), (["Yes", "No"], "B", "Disease Diagnosis"),
    ]  # fmt: skip
    assert left_out == {"no_options": 1, "open_ended": 1, "no_question_type": 1, "duplicate": 1, "image_missing": 1}
    chest, head = (labels[f"VQA_RAD Image Folder/synpic{n}.jpg"] for n in (1, 2))
    assert (chest["modality"], chest["anatomy"], chest["split"]) == ("X-Ray", "chest", "train")
    assert chest["group_key"] == "<VQA-RAD/group|https://example.org/case1>"
    assert (head["modality"], head["anatomy"], head["split"]) == (None, "head", "heldout")


def slake(qid: int, **more: Any) -> dict[str, Any]:
    return {
        "img_id": 1, "img_name": "xmlab1/source.jpg", "question": "Does the picture contain a lung?", "answer": "Yes",
        "q_lang": "en", "location": "Lung", "modality": "X-Ray", "answer_type": "CLOSED", "base_type": "vqa",
        "content_type": "Organ", "triple": ["vhead", "_", "_"], "qid": qid, **more,
    }  # fmt: skip


def test_slake(tmp_path: Path) -> None:
    files = {
        "train.json": [
            slake(1), slake(2, q_lang="zh", answer="是"), slake(3, answer="Left"), slake(4, answer_type="OPEN"),
            slake(5, content_type="KG"),
        ],
        "validate.json": [slake(1, img_name="xmlab2/source.jpg", answer="No", content_type="Size", modality="MRI")],
        "test.json": [slake(9, img_name="xmlab3/source.jpg", answer="no", modality="CT")],
    }  # fmt: skip
    folder = write(tmp_path, files, [f"imgs/xmlab{n}/source.jpg" for n in (1, 2, 3)])
    questions, left_out, labels = account(found(folder, "slake"))
    assert [(q["answer"], q["question_type"]) for q in questions] == [
        ("A", "Anatomy Identification"), ("B", "Other Biological Attributes"), ("B", "Anatomy Identification"),
    ]  # fmt: skip
    assert left_out == {"not_english": 1, "no_options": 1, "open_ended": 1, "no_question_type": 1}
    told = {(one["modality"], one["anatomy"], one["split"]) for one in labels.values()}
    assert told == {("X-Ray", "lung", "train"), ("MRI", "lung", "validation"), ("CT", "lung", "heldout")}


def test_pathvqa_in_json_and_never_in_pickles(tmp_path: Path) -> None:
    rows = [
        {"image": "train_0001", "question": "are the cells large?", "answer": "yes"},
        {"image": "train_0001", "question": "what is seen?", "answer": "a lymphocyte"},
        {"image": "train_0002", "question": "is it malignant?", "answer": "no", "question_type": "Disease Diagnosis"},
    ]  # fmt: skip
    folder = write(tmp_path / "json", {"train_qa.json": rows}, ["images/train/train_0001.jpg", "images/train_0002.jpg"])
    questions, left_out, labels = account(found(folder, "pathvqa"))
    assert [q["answer"] for q in questions] == ["B"]
    assert left_out == {"no_question_type": 1, "open_ended": 1}
    assert {(one["source"], one["modality"], one["split"]) for one in labels.values()} == {("PathVQA", None, "train")}

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / "pkl" / "qas").mkdir(parents=True)
    (tmp_path / "pkl" / "qas" / "train_qa.pkl").write_bytes(pickle.dumps(Trap()))
    assert detect(tmp_path / "pkl") is None
    with pytest.raises(NotFoundError, match="never opened"):
        layout(tmp_path / "pkl", "pathvqa")
    assert not (tmp_path / "sprung").exists()


def r1(
    image: str, solution: str = "<answer> B </answer>", problem: str = "Which stage (vitamin A) is it?"
) -> dict[str, str]:
    return {
        "image": f"Images/Some CT/{image}.png",
        "problem": f"{problem} A)T1, N0, Stage I, B)T2 (vitamin A) N0, C)Stage III",
        "solution": solution,
    }  # fmt: skip


def test_med_r1(tmp_path: Path) -> None:
    files = {
        "Splits/question_type/train/Lesion Grading_train.json": [
            r1("a"), r1("b", "<think>It is small.</think><answer>A</answer>"), r1("c", "<answer> E </answer>"),
            r1("d", "<answer>Stage III</answer>"),
        ],
        "Splits/question_type/test/Lesion Grading_test.json": [r1("e")],
        "Splits/modality/test/CT(Computed Tomography)_test.json": [r1("a"), r1("f")],
        "Splits/modality/train/unknown_train.json": [
            {"image": "Images/Some CT/a.png", "problem": "No options?", "solution": "<answer> A </answer>"}
        ],
    }  # fmt: skip
    folder = write(tmp_path, files, [f"Images/Some CT/{name}.png" for name in "abcdef"])
    questions, left_out, labels = account(found(folder, "med-r1"))
    assert questions[0]["question"] == "Which stage (vitamin A) is it?"
    assert questions[0]["options"] == ["T1, N0, Stage I", "T2 (vitamin A) N0", "Stage III"]
    assert [q["answer"] for q in questions] == ["B", "B", "A", "C"]
    assert [q["rationale"] for q in questions] == ["", "", "It is small.", ""]
    assert {q["question_type"] for q in questions} == {"Lesion Grading"}
    assert left_out == {"answer_not_an_option": 1, "duplicate": 1, "no_question_type": 1, "no_options": 1}
    splits = {file[-5]: (one["split"], one["modality"], one["source"]) for file, one in labels.items()}
    # 'a' trains by question type and is examined by modality: being examined on wins.
    assert splits["a"] == ("heldout", "CT", "Some CT")
    assert splits["b"] == ("train", None, "Some CT")
    assert splits["e"] == ("heldout", None, "Some CT")


@pytest.mark.parametrize("cut", [0.35, 0.95, 0.999, 0.9999])
def test_a_truncated_file_keeps_what_came_before(tmp_path: Path, cut: float) -> None:
    text = json.dumps([omni(n) for n in range(10)])
    folder = write(
        tmp_path, {"QA_information/Open-access/a.json": text[: int(len(text) * cut)]},
        [f"Images/Some CT/{n}.png" for n in range(10)],
    )  # fmt: skip
    questions, left_out, _ = account(layout(folder, "omnimedvqa"))
    assert left_out == {"unreadable_json": 1}
    assert len(questions) == {0.35: 3, 0.95: 9, 0.999: 9, 0.9999: 10}[cut]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\xff[]", "not_utf8"), (b"[" * 100_000, "unreadable_json"), (b"", ""), (b"[]", ""),
     (b"nonsense", "unreadable_json"),
     (b"{}", "missing:image"), (b"[null, 7]", "not_an_object"), (b'{"image_path": {"a": 1}}', "missing:image"),
     (b'{"image_path": "\\ud800"}', "missing:question"),
     (b'{"image_path": "' + b"x" * 9000 + b'"}', "missing:question")],
)  # fmt: skip
def test_a_bad_file_is_a_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "QA_information").mkdir()
    (tmp_path / "QA_information" / "a.json").write_bytes(data)
    assert detect(tmp_path) is None
    _, left_out, _ = account(layout(tmp_path, "omnimedvqa"))
    assert set(left_out) == ({reason} if reason else set())


def test_other_folders_are_no_benchmark(tmp_path: Path) -> None:
    assert detect(tmp_path) is None
    write(tmp_path, {"train.json": [{"image": "a.png", "question": "?", "answer": "yes"}]}, ["a.png"])
    assert detect(tmp_path) is None, "a hospital's own JSON is not PathVQA"
    for name in set(BENCHMARKS) - {"slake", "pathvqa"}:
        with pytest.raises(NotFoundError, match=f"no {name} here"):
            layout(tmp_path, name)
    with pytest.raises(UsageError, match="no layout 'vqa'"):
        layout(tmp_path, "vqa")


def test_the_digest_follows_the_contents(tmp_path: Path) -> None:
    folder = write(tmp_path, {"QA_information/Open-access/a.json": [omni(0)]}, [])
    first = found(folder, "omnimedvqa").read(hashed)[0].digest
    assert found(folder, "omnimedvqa").read(hashed)[0].digest == first
    write(tmp_path, {"QA_information/Open-access/a.json": [omni(1)]}, [])
    assert found(folder, "omnimedvqa").read(hashed)[0].digest != first
