"""Prompts are rendered to the letter, and replies are read so that nothing ambiguous counts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgr2.models.prompts import (
    ANSWER,
    GENERATE_EMBEDDED,
    answering_text,
    draft_text,
    generating_text,
    load_prompt,
    parse_answer,
    parse_draft,
    reply_text,
)
from medgr2.schemas.errors import NotFoundError
from medgr2.schemas.items import Draft
from medgr2.schemas.vocabulary import QuestionType

GOOD = {"question": "Where is it?", "options": ["left", "right", "up", "down"], "answer": "B", "rationale": "right."}


def test_the_two_texts_are_the_trained_ones() -> None:
    assert (
        answering_text(load_prompt(ANSWER), "Where is it?", ["left", "right", "up", "down"])
        == "Question: Where is it? Options: A) left B) right C) up D) down"
    )
    assert (
        generating_text(load_prompt(GENERATE_EMBEDDED), QuestionType.GRADING, "CT,\n head ")
        == "Task: write one Lesion Grading question. Report: CT, head"
    )
    assert generating_text(load_prompt(GENERATE_EMBEDDED), "OCT", None).endswith("Report: none")


def test_values_are_never_read_as_templates() -> None:
    assert "{options} {0}" in answering_text(load_prompt(ANSWER), "{options} {0}", ["a", "b"])


def test_an_unknown_prompt_names_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match=r"answer\.v1"):
        load_prompt("answer.v999")


def test_what_is_written_is_read_back() -> None:
    assert parse_answer(reply_text("CT of the head.", "C"), 4) == "C"
    draft = Draft.model_validate(GOOD)
    assert parse_draft(draft_text(draft)) == draft
    assert draft_text(draft) == json.dumps(GOOD)


def _with(**changes: object) -> str:
    return json.dumps({**GOOD, **changes})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not_json"),
        (json.dumps(GOOD)[:-3], "not_json"),
        (json.dumps(GOOD) + " {}", "not_json"),
        ("```json\n" + json.dumps(GOOD) + "\n```", "not_json"),
        ("[" * 100_000, "not_json"),
        ('{"question": ' + "9" * 5000 + "}", "not_json"),
        (json.dumps([GOOD]), "not_an_object"),
        ("null", "not_an_object"),
        (_with(score=1), "unknown_key"),
        ('{"answer": "A", ' + json.dumps(GOOD)[1:], "duplicate_key"),
        (_with(question=float("nan")), "not_a_number"),
        (_with(question=3), "schema:question"),
        (_with(options="left right"), "schema:options"),
        (_with(options=["a", 2, "c", "d"]), "schema:options"),
        (_with(options=["a", " ", "c", "d"]), "schema:options"),
        (_with(answer="E"), "schema:answer"),
        (_with(answer="b"), "schema:answer"),
        (_with(answer=["B"]), "schema:answer"),
        (_with(rationale=""), "schema:rationale"),
        (_with(rationale=None), "schema:rationale"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "rationale"}), "schema:rationale"),
        (_with(question="where \ud800 is it"), "not_json"),
    ],
)
def test_every_way_to_write_no_draft_has_its_reason(text: str, reason: str) -> None:
    assert parse_draft(text) == reason


@given(st.text(max_size=200))
def test_any_text_is_a_draft_or_a_reason(text: str) -> None:
    assert isinstance(parse_draft(text), (Draft, str))
