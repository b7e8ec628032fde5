"""Our account of other scorers against their documented rules, written down once more and otherwise."""

from __future__ import annotations

import random

import pytest
from documented_scorers import reference_vlmevalkit

from medgr2.models.other_scorers import NOTHING, SILENCE, lmms_eval, lmms_eval_credit, said, vlmevalkit
from medgr2.models.prompts import parse_answer

OPTIONS = ("CT", "MRI", "OCT", "X-Ray")


@pytest.mark.parametrize(
    ("prediction", "letter"),
    [
        ("B", "B"), ("B.", "B"), ("(B)", "B"), ("Answer: B", "B"), ("A or B", NOTHING), ("E", NOTHING), ("", NOTHING),
        ("mri", "B"), ("It is an MRI of the head", "B"), ("It is an MRI of the whole head", NOTHING),
        ("MRI, not CT", NOTHING), ("ZB", NOTHING), ("Z", NOTHING),
        # B first stands among the last four words, or too far before them.
        ("B as you can see", NOTHING), ("B you can see", "B"), ("so I say B", "B"),
        ("<answer>B</answer>", NOTHING), (SILENCE, NOTHING),
    ],
)  # fmt: skip
def test_vlmevalkit_reads_a_letter_or_the_text_of_an_option(prediction: str, letter: str) -> None:
    assert vlmevalkit(prediction, OPTIONS) == letter
    assert reference_vlmevalkit(prediction, OPTIONS) == letter


@pytest.mark.parametrize(
    ("prediction", "letter"),
    [
        ("B", "B"), ("B.", "B"), ("(B)", "B"), ("The answer is B.", "B"), ("A or B", "B"), ("B, not A", "A"),
        ("(A) and B", "A"), ("MRI", None), ("", None), ("Is it B. or so", "B"), ("<answer>B</answer>", None),
    ],
)  # fmt: skip
def test_lmms_eval_reads_the_last_letter_that_stands_alone(prediction: str, letter: str | None) -> None:
    assert lmms_eval(prediction, OPTIONS) == letter


def test_a_drawn_letter_counts_what_it_gets_on_average() -> None:
    assert lmms_eval_credit("no idea", OPTIONS, "C") == 0.25
    assert (lmms_eval_credit("C", OPTIONS, "C"), lmms_eval_credit("B", OPTIONS, "C")) == (1.0, 0.0)


@pytest.mark.parametrize("letter", ["A", "B", "C", "D"])
def test_a_letter_that_we_read_everybody_reads(letter: str) -> None:
    for reply in (
        f"<think>an odd thought: A, B or C.</think><answer>{letter}</answer>",
        f"<answer> {letter}</answer>\n<think>not A, B or C</think>",
    ):
        told = said(reply)
        assert told == vlmevalkit(told, OPTIONS) == lmms_eval(told, OPTIONS) == letter


@pytest.mark.parametrize(
    ("reply", "told", "kit", "lmms"),
    [
        ("<answer>B</answer><answer>C</answer>", "B C", NOTHING, "C"),
        ("<answer>(B) it is</answer>", "(B) it is", "B", "B"),
        ("It is B.", "It is B.", "B", "B"),
        ("<think>B, for it is so", "B, for it is so", NOTHING, None),
        ("<answer>E</answer>", "E", NOTHING, None),
    ],
)
def test_what_we_can_not_read_is_theirs_to_read(reply: str, told: str, kit: str, lmms: str | None) -> None:
    assert parse_answer(reply, len(OPTIONS)) is None
    assert said(reply) == told
    assert (vlmevalkit(told, OPTIONS), lmms_eval(told, OPTIONS)) == (kit, lmms)


def test_silence_has_a_word() -> None:
    assert said("") == said(None) == said("  ") == said("<think>only so</think><answer></answer>") == SILENCE


def test_on_any_text_it_is_the_documented_rule() -> None:
    rng = random.Random(5)
    words = [
        "A",
        "B",
        "C",
        "D",
        "E",
        "Z",
        "(A)",
        "B.",
        "C,",
        "ct",
        "MRI",
        "oct!",
        "x-ray",
        "so",
        "the",
        "answer",
        "is:",
    ]
    seen = set()
    for _ in range(4000):
        text = " ".join(rng.choices(words, k=rng.randint(0, 7)))
        options = OPTIONS[: rng.randint(2, 4)]
        letter = vlmevalkit(text, options)
        assert letter == reference_vlmevalkit(text, options), text
        seen.add(letter)
    assert seen == {"A", "B", "C", "D", NOTHING}
