"""What is known of an image, what it allows to ask, and what a draft may not repeat of it."""

from __future__ import annotations

import json

import pytest

from medgr2.models.facts import MEANINGS, Facts, alludes, names_a_grade, names_of, quotes, supports
from medgr2.schemas.vocabulary import QuestionType

BARE = Facts(modality="CT")


def told(**row: object) -> Facts:
    return Facts.of({"modality": "CT", **row})


def test_labels_are_shown_as_words_in_an_order_of_their_own() -> None:
    labels = {"view": "axial", "diagnosis": "cyst", "question_types": "x", "grade": None, "boxes": {"b": 1, "a": [2]}}
    facts = told(labels=json.dumps(labels), report=" A\n  cyst. ", anatomy=None)
    assert facts.shown("labels") == 'boxes: {"a": [2], "b": 1}; diagnosis: cyst; view: axial'
    assert facts.shown("report") == "A cyst."
    assert (facts.shown("modality"), facts.shown("anatomy")) == ("CT", "unknown")
    assert (BARE.shown("labels"), BARE.shown("report")) == ("none", "none")


def test_a_long_report_is_cut() -> None:
    assert len(told(report="word " * 5000).shown("report")) == 4000


@pytest.mark.parametrize("question_type", list(QuestionType))
def test_what_a_picture_alone_can_carry(question_type: QuestionType) -> None:
    assert supports(question_type, BARE) is (question_type not in (QuestionType.DISEASE, QuestionType.GRADING))
    assert MEANINGS[question_type]


def test_a_disease_needs_somebody_who_knows() -> None:
    assert supports(QuestionType.DISEASE, told(labels='{"diagnosis": "normal"}'))
    assert supports(QuestionType.DISEASE, told(report="Normal chest."))
    assert not supports(QuestionType.DISEASE, told(labels='{"question_types": "disease"}', report=""))


@pytest.mark.parametrize(
    "text",
    [
        "moderate stenosis", "Severely dilated.", "grade II glioma", "Grade: 3", "graded 2", "stage IIIb", "stage 4",
        "high-grade lesion", "low grade", "poorly differentiated", "BI-RADS 4", "PI-RADS: 5", "Gleason score 7",
        "nonproliferative retinopathy", "Kellgren and Lawrence", "pT2N1", "mild, end-stage", "a trace of fluid",
    ],
)  # fmt: skip
def test_a_grade_is_known_by_its_words(text: str) -> None:
    assert names_a_grade(told(report=text))
    assert names_a_grade(told(labels=json.dumps({"diagnosis": text})))
    assert supports(QuestionType.GRADING, told(report=text))


@pytest.mark.parametrize(
    "text",
    [
        "", "Normal.", "A cyst at this stage of life", "type 2 diabetes", "level L3", "upgrade of the scanner",
        "mildew", "T2-weighted, T1", "a well defined border", "class of drugs", "retrograde filling", "low density",
    ],
)  # fmt: skip
def test_what_is_no_grade(text: str) -> None:
    assert not names_a_grade(told(report=text, labels=json.dumps({"diagnosis": text})))


@pytest.mark.parametrize(("grade", "known"), [("II", True), ("0", True), ("none", False), ("N/A", False), ("", False)])
def test_a_grade_of_its_own_column_counts_as_it_stands(grade: str, known: bool) -> None:
    assert names_a_grade(told(labels=json.dumps({"grade": grade}))) is known


def test_a_context_names_what_was_shown_and_follows_it_alone() -> None:
    facts = told(report="A cyst.", labels='{"grade": "II"}')
    context = facts.context(("question_type", "report", "modality"))
    assert names_of(context) == ("modality", "report")
    assert "cyst" not in context
    assert context == told(report=" A  cyst. ").context(names_of(context))
    assert context != told(report="A nodule.").context(names_of(context))
    assert context != Facts.of({"modality": "MRI", "report": "A cyst."}).context(names_of(context))
    assert names_of(facts.context(("question_type",))) == ()


REPORT = "The heart is enlarged, with small effusions on both sides."


def test_a_quotation_is_eight_words_in_a_row() -> None:
    assert quotes("Look: THE heart is enlarged with small effusions on - what?", REPORT)
    assert not quotes("The heart is enlarged with small effusions here.", REPORT)
    assert not quotes("enlarged heart", "enlarged heart"), "a short report is made of the words of its finding"


@pytest.mark.parametrize(
    "text",
    [
        "According to the report, it is a cyst.", "based on the given labels", "As described in the clinical report",
        "The radiology report states a mass.", "The label says cyst", "as noted in its metadata", "per the report",
    ],
)  # fmt: skip
def test_what_readers_do_not_have_is_not_spoken_of(text: str) -> None:
    assert alludes(text)


@pytest.mark.parametrize(
    "text",
    ["A round opacity.", "The arrow labelled L marks the left side.", "Which label fits?", "based on the bright rim"],
)
def test_what_can_be_seen_is_spoken_of(text: str) -> None:
    assert not alludes(text)
