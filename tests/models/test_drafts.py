"""Replies of general models: what is mended, and what is refused with which reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgr2.models.drafts import read_draft
from medgr2.schemas.items import Draft

GOOD = {"question": "Where is it?", "options": ["left", "right", "up", "down"], "answer": "B", "rationale": "right."}
DRAFT = Draft.model_validate(GOOD)
BARE = json.dumps(GOOD)


def having(**changes: object) -> str:
    return json.dumps({**GOOD, **changes})


@pytest.mark.parametrize(
    "text",
    [
        BARE,
        f"\n {BARE} \n",
        f"```json\n{BARE}\n```",
        f"Here is your question:\n\n{json.dumps(GOOD, indent=2)}\n\nI hope that {{it}} helps!",
        f"<think>The options {{left, right}} fit.</think>{BARE}",
        having(reflection="It allows {this}.", unsupported=False),
        json.dumps({"reasoning": "1. A dark spot.", **GOOD}),
        having(answer="b"),
        having(answer="(B)"),
        having(answer="B."),
        having(answer="right"),
        having(answer=" Right. "),
        having(answer="B) right"),
        having(options=["A) left", "B) right", "C) up", "D) down"]),
        having(options=["a. left", "b. right", "c. up", "d. down"], answer="B. right"),
    ],
)
def test_what_can_be_read_in_one_way_is_read(text: str) -> None:
    assert read_draft(text) == DRAFT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not_json"),
        ("I cannot see a picture.", "not_json"),
        (BARE[:-3], "not_json"),
        ("{" * 70_000, "not_json"),
        ('{"a":' * 12_000, "not_json"),
        (f"{BARE} or {BARE}", "several_objects"),
        (having(answer="E"), "schema:answer"),
        (having(answer="above"), "schema:answer"),
        (having(answer="A) right"), "schema:answer"),
        (having(answer=["B"]), "schema:answer"),
        (having(options=["left", "right.", "Right", "down"], answer="right"), "schema:answer"),
        (having(options=["left", "right"]), "schema:options"),
        (having(options=[*"123456"]), "schema:options"),
        (having(options="left, right, up, down"), "schema:options"),
        (having(options=["a", 2, "c", "d"]), "schema:options"),
        (having(rationale=""), "schema:rationale"),
        (having(score=1), "unknown_key"),
        ('{"answer": "A", ' + BARE[1:], "duplicate_key"),
        (having(question=float("nan")), "not_a_number"),
        ('{"unsupported": true}', "unsupported"),
        ('```{"reflection": "Nothing to grade.", "unsupported": true}```', "unsupported"),
        (having(unsupported=True), "unsupported"),
        ('{"unsupported": "yes"}', "schema:question"),
    ],
)
def test_what_is_unclear_has_its_reason(text: str, reason: str) -> None:
    assert read_draft(text) == reason


def test_marks_that_are_not_the_options_own_letters_stay() -> None:
    draft = read_draft(having(options=["A. fumigatus", "C. albicans", "T. gondii", "E. coli"], answer="C. albicans"))
    assert isinstance(draft, Draft)
    assert draft.options == ("A. fumigatus", "C. albicans", "T. gondii", "E. coli")
    assert draft.key_text == "C. albicans"


@pytest.mark.parametrize("depth", range(300, 3000, 90))
def test_no_depth_is_an_error(depth: int) -> None:
    assert isinstance(read_draft(having(question=0).replace("0", "[" * depth + "]" * depth)), str)


@given(st.text(alphabet='{}[]",: abAB\\', max_size=80))
def test_any_text_is_a_draft_or_a_reason(text: str) -> None:
    assert isinstance(read_draft(text), (Draft, str))
