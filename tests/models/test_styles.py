"""Styles: what the prompts for general models say, and what they may not."""

from __future__ import annotations

import json

import pytest

from medgr2.models.drafts import read_draft
from medgr2.models.prompts import GENERATE_EMBEDDED, REPAIR, load_prompt
from medgr2.models.styles import DEFAULT, EMBEDDED, STYLES, fields_of, prompt_of, style_for
from medgr2.schemas import parameters
from medgr2.schemas.errors import UsageError
from medgr2.schemas.items import Draft
from medgr2.schemas.parameters import GenerateParameters

GENERAL = [style for style in STYLES.values() if style is not EMBEDDED]
FIELDS = ("question_type", "meaning", "modality", "anatomy", "labels", "report", "distractors")


def test_every_style_that_can_be_asked_for_is_there() -> None:
    assert {style.name for style in GENERAL} == set(parameters.STYLES)
    assert DEFAULT.name == "meta-cognitive"


def test_a_general_model_reflects_unless_told_otherwise() -> None:
    assert style_for(GenerateParameters(), base_is_embedded=False) is DEFAULT
    assert style_for(GenerateParameters(style="direct"), base_is_embedded=False).name == "direct"
    assert style_for(GenerateParameters(), base_is_embedded=True) is EMBEDDED
    with pytest.raises(UsageError, match="own words"):
        style_for(GenerateParameters(style="direct"), base_is_embedded=True)


def test_the_words_that_the_embedded_model_was_taught() -> None:
    assert load_prompt(GENERATE_EMBEDDED) == "Task: write one {question_type} question. Report: {report}"
    assert fields_of(prompt_of(EMBEDDED)) == ("question_type", "report")


@pytest.mark.parametrize("style", GENERAL, ids=lambda style: style.name)
def test_a_prompt_shows_all_facts_and_ends_with_a_reply_that_can_be_read(style: object) -> None:
    assert isinstance(style, type(DEFAULT))
    template = prompt_of(style)
    assert set(fields_of(template)) == set(FIELDS)
    text = template.format(**{name: f"<{name}>" for name in FIELDS})
    assert "according to the report" in text
    assert '{"unsupported": true}' in text
    example = text.splitlines()[-1]
    assert list(json.loads(example)) == [*filter(None, [style.thinking]), *Draft.model_fields]
    filled = json.loads(example) | {"question": "What?", "options": [*"wxyz"], "answer": "D", "rationale": "So z."}
    assert isinstance(read_draft(json.dumps(filled)), Draft)


@pytest.mark.parametrize("style", GENERAL, ids=lambda style: style.name)
def test_a_form_takes_what_can_be_read(style: object) -> None:
    assert isinstance(style, type(DEFAULT))
    assert style.form is not None
    assert style.form["additionalProperties"] is False
    assert list(style.form["properties"]) == style.form["required"], "servers of the strict kind want all of them"


def test_a_repair_names_its_reason() -> None:
    assert fields_of(load_prompt(REPAIR)) == ("reason",)


def test_each_field_is_told_once() -> None:
    assert fields_of("{a} {{b}} {c} {a}") == ("a", "c")
