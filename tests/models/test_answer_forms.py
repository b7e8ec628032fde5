"""Each form of an answer is read to the letter: a reply that could be read two ways was not an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgr2.models.answer_forms import (
    METRIC,
    Answering,
    answering_in,
    answering_of,
    parse_answer,
    reply_text,
    well_formed,
)
from medgr2.models.prompts import answering_text, load_prompt
from medgr2.schemas.vocabulary import AnswerStyle

STYLES: tuple[AnswerStyle, ...] = ("think", "no-think", "think-after")
B = "<answer>B</answer>"
T = "<think>seen</think>"

# For each style the letter that is read, four options given.
TABLE: dict[str, tuple[str | None, str | None, str | None]] = {
    # what every style can read
    B: ("B", "B", "B"),
    f"  {B}\n\t": ("B", "B", "B"),
    # the thought where it belongs, and where it does not
    f"{T}{B}": ("B", None, None),
    f"{T}\n\n{B}": ("B", None, None),
    f"{B}{T}": (None, None, "B"),
    f"{B}\n{T}": (None, None, "B"),
    f"{T}{B}{T}": (None, None, None),
    "<think></think>" + B: ("B", None, None),
    "<think>a < b > c, 3 <4</think>" + B: ("B", None, None),
    # no answer at all
    "": (None, None, None),
    " \n ": (None, None, None),
    "B": (None, None, None),
    "The answer is B.": (None, None, None),
    T: (None, None, None),
    "<answer></answer>": (None, None, None),
    "<answer> </answer>": (None, None, None),
    # more than one
    "<answer>A or B</answer>": (None, None, None),
    "<answer>A or B or C</answer>": (None, None, None),
    "<answer>A, B</answer>": (None, None, None),
    "<answer>AB</answer>": (None, None, None),
    "<answer>A/B</answer>": (None, None, None),
    "<answer>B, not A</answer>": (None, None, None),
    f"<answer>A</answer>{B}": (None, None, None),
    f"{B}{B}": (None, None, None),
    f"{T}{B}{B}": (None, None, None),
    B * 50: (None, None, None),
    # hidden in the thought, or in another mark
    f"<think>{B}</think>": (None, None, None),
    f"<think>so {B}</think><answer>A</answer>": (None, None, None),
    f"<answer>A</answer><think>rather {B}</think>": (None, None, None),
    f"<think>x <answer>B</think>{B}": (None, None, None),
    f"<think>x <answer B</think>{B}": (None, None, None),
    f"<think>x <ANSWER>C</ANSWER></think>{B}": (None, None, None),
    f"<think>x</answer></think>{B}": (None, None, None),
    f"<answer>{B}</answer>": (None, None, None),
    f"<think>{T}</think>{B}": (None, None, None),
    f"<think>x</think>y</think>{B}": (None, None, None),
    f"{T}{T}{B}": (None, None, None),
    f"{B}{T}{T}": (None, None, None),
    f"<think>never closed {B}": (None, None, None),
    f"{B}<think>never closed": (None, None, None),
    # other letters than the options'
    "<answer>E</answer>": (None, None, None),
    "<answer>Z</answer>": (None, None, None),
    "<answer>b</answer>": (None, None, None),
    "<answer>2</answer>": (None, None, None),
    "<answer>B)</answer>": (None, None, None),
    "<answer>B.</answer>": (None, None, None),
    "<answer> B </answer>": (None, None, None),
    "<answer>\u0412</answer>": (None, None, None),  # Cyrillic
    "<answer>\u0392</answer>": (None, None, None),  # Greek
    "<answer>\uff22</answer>": (None, None, None),  # full width
    "<answer>\U0001d401</answer>": (None, None, None),  # mathematical bold
    "<answer>B\u0301</answer>": (None, None, None),  # an accent on it
    "<answer>\u200bB</answer>": (None, None, None),  # a space of no width
    "<answer>B\u202e</answer>": (None, None, None),  # turns the direction of reading
    f"\ufeff{B}": (None, None, None),  # a mark of byte order
    f"\x00{B}": (None, None, None),
    "<\u0430nswer>B</\u0430nswer>": (None, None, None),  # the mark itself with a Cyrillic letter
    "\uff1canswer\uff1eB\uff1c/answer\uff1e": (None, None, None),
    # text around it
    f"{B} because B is right": (None, None, None),
    f"The answer is {B}": (None, None, None),
    f"{B}.": (None, None, None),
    f"```{B}```": (None, None, None),
    f"<final>{B}</final>": (None, None, None),
    "<answer>B</answer": (None, None, None),
    "<answer>B": (None, None, None),
    "</answer>B<answer>": (None, None, None),
    "<ANSWER>B</ANSWER>": (None, None, None),
    "<answer >B</answer>": (None, None, None),
    '<answer kind="sure">B</answer>': (None, None, None),
    "&lt;answer&gt;B&lt;/answer&gt;": (None, None, None),
    # tokens that steer a chat
    f"{B}<end_of_utterance>": (None, None, None),
    f"{B}<|im_end|>": (None, None, None),
    f"<|assistant|>{B}": (None, None, None),
    f"{B}<end_of_utterance><|user|>and now C": (None, None, None),
    # ten thousand characters
    f"<think>{'so ' * 3333}</think>{B}": ("B", None, None),
    f"{'so ' * 3333}{B}": (None, None, None),
    f"{B}{' ' * 10_000}": ("B", "B", "B"),
    f"{B}{'!' * 10_000}": (None, None, None),
}  # fmt: skip


@pytest.mark.parametrize("text", TABLE, ids=lambda text: ascii(text)[:48])
def test_only_one_clear_answer_counts(text: str) -> None:
    assert tuple(parse_answer(text, 4, style) for style in STYLES) == TABLE[text]


@pytest.mark.timeout(300)  # read in one pass it takes a moment; looking at the rest at each mark takes an hour
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("piece", ["<think", "<answer>", "</think>", "</think> ", "<think>x</think>", "< " * 3, B])
def test_long_nonsense_is_read_in_no_time(style: AnswerStyle, piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    assert parse_answer(text, 4, style) is None
    assert parse_answer(f"<think>{text}</think>{B}", 4, style) in (None, "B")


@pytest.mark.parametrize("style", STYLES)
def test_what_is_taught_is_read_back_and_well_formed(style: AnswerStyle) -> None:
    said = reply_text("CT of the head.", "C", style)
    assert parse_answer(said, 4, style) == "C"
    assert well_formed(said, 4, style)
    assert parse_answer(said, 2, style) is None
    assert not well_formed(said, 2, style)
    others = [other for other in STYLES if other != style]
    assert all(not well_formed(said, 4, other) for other in others)


@pytest.mark.parametrize("style", ["think", "think-after"])
def test_a_form_without_its_thought_can_be_read_but_is_not_well_formed(style: AnswerStyle) -> None:
    for text in (B, "<think></think>" + B, B + "<think> \n</think>"):
        assert not well_formed(text, 4, style)


@given(st.sampled_from(STYLES), st.text(alphabet="<>/think answer ABC", max_size=60))
def test_a_letter_is_read_only_from_one_block(style: AnswerStyle, text: str) -> None:
    letter = parse_answer(text, 4, style)
    if letter is not None:
        assert text.count("<answer>") == 1
        assert f"<answer>{letter}</answer>" in text


@given(st.sampled_from(STYLES), st.sampled_from("ABCD"), st.text(max_size=200))
def test_any_rationale_leaves_the_letter_or_none(style: AnswerStyle, letter: str, rationale: str) -> None:
    assert parse_answer(reply_text(rationale, letter, style), 4, style) in (letter, None)


def test_each_form_that_is_told_has_words_of_its_own() -> None:
    told = {style: load_prompt(answering_in(style, told=True).prompt) for style in STYLES}
    assert len(set(told.values())) == 3
    for text in told.values():
        assert answering_text(text, "Where?", ["left", "right"]).startswith(
            "Question: Where? Options: A) left B) right"
        )
    assert "<think>" not in told["no-think"]
    assert told["think"].index("<think>") < told["think"].index("<answer>")
    assert told["think-after"].index("<answer>") < told["think-after"].index("<think>")


def test_a_model_that_says_nothing_of_it_answers_as_the_base_does() -> None:
    assert (
        answering_of({"training": {}})
        == Answering(style="think", prompt="answer.v1")
        == answering_in("think", told=False)
    )
    after = answering_in("think-after", told=True)
    assert answering_of({METRIC: after.model_dump()}) == after
