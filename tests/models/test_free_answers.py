from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from documented_scorers import lmms_eval_scores, reference_slake

from medgr2.models.free_answers import exact, normalised, parse_free, token_overlap


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<answer>left lung</answer>", "left lung"),
        ("<think>It is bright.</think> <answer> Yes </answer>", "Yes"),
        ("the left lung", "the left lung"),
        ("<answer></answer>", None), ("", None), ("  ", None),
        ("<answer>yes</answer><answer>no</answer>", None),
        ("<think>the <answer>yes</answer></think><answer>no</answer>", None),
        ("<think><answer>yes</answer></think>", None),
        ("<answer>yes", None), ("yes</answer>", None), ("yes <answer>no</answer>", None),
        ("<answer>yes</answer> or no", None), ("<think>never closed, so yes", None),
    ],
)  # fmt: skip
def test_one_answer_block_or_no_marks_at_all(reply: str, answer: str | None) -> None:
    assert parse_free(reply) == answer


@pytest.mark.parametrize(
    ("answer", "key", "right"),
    [
        ("Yes", "yes", True), ("yes.", "Yes", True), ("true", "Yes", True), ("No", "yes", False), (None, "", False),
        ("yes, there is", "yes", False), ("X-ray", "X-Ray", True), ("xray", "x ray", True),
        ("Left lung (upper)", "left lung", True), ("the left lung", "left lung", False), ("", "yes", False),
    ],
)  # fmt: skip
def test_exact_after_normalisation(answer: str | None, key: str, right: bool) -> None:
    assert exact(answer, key) is right


@pytest.mark.parametrize(
    ("answer", "key", "f1", "recall"),
    [
        ("left lung", "Left lung", 1.0, 1.0), ("the left lung", "left lung", 0.8, 1.0),
        ("lung", "left lung", 2 / 3, 0.5), ("heart", "left lung", 0.0, 0.0), (None, "lung", 0.0, 0.0),
        ("lung lung lung", "lung", 0.5, 1.0), ("", "lung", 0.0, 0.0),
    ],
)  # fmt: skip
def test_tokens_in_common(answer: str | None, key: str, f1: float, recall: float) -> None:
    assert token_overlap(answer, key) == pytest.approx((f1, recall))


@pytest.fixture
def said() -> list[tuple[str, str]]:
    rng = random.Random(11)
    words = [
        "yes",
        "No",
        "true",
        "X-Ray",
        "x ray",
        "left",
        "Lung",
        "(upper)",
        "lobe,",
        "the",
        "CT.",
        "2",
        "T2-weighted",
    ]
    return [(" ".join(rng.choices(words, k=rng.randint(1, 3))), " ".join(rng.choices(words, k=1))) for _ in range(1500)]


def test_on_any_text_it_is_the_documented_rule(said: list[tuple[str, str]]) -> None:
    ours = [exact(answer, key) for answer, key in said]
    assert 20 < sum(ours) < 500
    assert ours == [reference_slake(answer, key) for answer, key in said]


def test_the_installed_lmms_eval_calls_the_same_answers_right(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    export = tmp_path / "export.jsonl"
    lines = [
        {"doc": {"answer": key, "qid": n}, "target": key, "filtered_resps": [a]} for n, (a, key) in enumerate(said)
    ]
    export.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert lmms_eval_scores(export, "slake") == [float(exact(answer, key)) for answer, key in said]


def test_what_is_left_of_a_text() -> None:
    assert normalised("  T2-Weighted  (axial) MRI! ") == "t2 weighted mri"
