"""The oracle: its own process only, strict about truth, patient with bad input."""

import hashlib
import importlib
import json
import subprocess
import sys

import pytest

from medgr2_phantoms.questions import LETTERS


def consult(truth, lines):
    return subprocess.run(
        [sys.executable, "-m", "medgr2_phantoms.oracle", "--truth", str(truth)],
        input="\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines),
        capture_output=True,
        text=True,
        timeout=400,
    )


def judged(hospital, *requests):
    done = consult(hospital.truth, requests)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def requests(hospital):
    items = []
    for number, line in enumerate((hospital.folder / "heldout.jsonl").read_text().splitlines()):
        row = json.loads(line)
        image = (hospital.folder / row.pop("file")).read_bytes()
        items.append({**row, "item_id": f"i{number}", "image_sha256": hashlib.sha256(image).hexdigest()})
    return items


def of_type(requests, question_type):
    return next(dict(request) for request in requests if request["question_type"] == question_type)


def test_importing_it_is_refused():
    with pytest.raises(ImportError, match="cannot be imported"):
        importlib.import_module("medgr2_phantoms.oracle")


def test_every_true_question_is_valid(hospital, requests):
    answers = judged(hospital, *requests)
    assert [answer["item_id"] for answer in answers] == [request["item_id"] for request in requests]
    assert [answer for answer in answers if not answer["valid"]] == []


def test_a_wrong_key_is_invalid(hospital, requests):
    wrong = [{**r, "answer": LETTERS[(LETTERS.index(r["answer"]) + 1) % 4]} for r in requests]
    assert {answer["reason"] for answer in judged(hospital, *wrong)} == {"the keyed option is not true of the image"}


def test_another_image_makes_most_questions_invalid(hospital, requests):
    moved = [
        {**request, "image_sha256": other["image_sha256"]}
        for request, other in zip(requests, [*requests[1:], requests[0]], strict=True)
    ]
    still_valid = [answer for answer in judged(hospital, *moved) if answer["valid"]]
    assert len(still_valid) < len(moved) / 4  # not none: two patients may share the labels that were asked for


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_sha256": "0" * 64}, "unknown image"),
        ({"question_type": "Prognosis"}, "unknown question type"),
        ({"question_type": "Lesion Grading"}, "not understood"),
        ({"question": "Modality which is image this?"}, "not understood"),
        ({"options": ["CT", "CT", "MRI", "OCT"]}, "not four or five distinct"),
        ({"options": ["CT", "ct ", "MRI", "OCT"]}, "not four or five distinct"),
        ({"options": ["CT", "MRI"]}, "not four or five distinct"),
        ({"options": ["CT", "MRI", "OCT", "banana"]}, "no answer to this question"),
        ({"answer": "E"}, "no letter"),
        ({"answer": "a"}, "no letter"),
        ({"rationale": "  "}, "rationale is empty"),
    ],
)
def test_what_makes_an_item_invalid(hospital, requests, change, reason):
    (answer,) = judged(hospital, {**of_type(requests, "Modality Recognition"), **change})
    assert answer["valid"] is False
    assert reason in answer["reason"]


def test_a_question_without_a_true_option_is_invalid(hospital, requests):
    request = of_type(requests, "Modality Recognition")
    true = request["options"][LETTERS.index(request["answer"])]
    others = [m for m in ("CT", "MRI", "X-Ray", "OCT", "Microscopy") if m != true][:4]
    (answer,) = judged(hospital, {**request, "options": others})
    assert answer["reason"] == "no option is true of the image"


def test_a_rationale_that_contradicts_the_scene_is_invalid(hospital, requests):
    request = of_type(requests, "Disease Diagnosis")
    rows = [json.loads(line) for line in hospital.truth.read_text().splitlines()]
    scene = next(row["scene"] for row in rows if row["image_sha256"] == request["image_sha256"])
    grade = "severe" if scene["grade"] != "severe" else "mild"
    (answer,) = judged(hospital, {**request, "rationale": f"It is {grade}."})
    assert answer["valid"] is False
    assert f"says {grade}" in answer["reason"]


def test_a_light_paraphrase_is_understood(hospital, requests):
    request = of_type(requests, "Modality Recognition")
    (answer,) = judged(hospital, {**request, "question": "what  imaging technique was used here"})
    assert answer["valid"] is True


def test_malformed_lines_are_answered_and_the_rest_is_judged(hospital, requests):
    answers = judged(hospital, "not json", "{}", "[1]", json.dumps({**requests[0], "options": "A"}), requests[0])
    assert [answer.get("error", False) for answer in answers] == [True, True, True, True, False]
    assert answers[-1]["valid"] is True
    assert "line 1" in answers[0]["reason"]


def test_a_missing_truth_file_is_one_clear_message(tmp_path):
    done = consult(tmp_path / "none.jsonl", [])
    assert done.returncode == 1
    assert "cannot read the truth" in done.stderr
    assert "Traceback" not in done.stderr
