"""Questions are true, and guessing without looking is at chance."""

import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from medgr2_phantoms.questions import (
    BALANCE,
    LETTERS,
    QUESTION_TYPES,
    TOPICS,
    ask,
    describe,
    explain,
    fixed_label,
    generating_prompt,
)
from medgr2_phantoms.world import sample_scene


def asked(question_type, count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        scene = sample_scene(rng, **fixed_label(question_type, rng))
        yield scene, ask(scene, question_type, rng)


def test_the_five_question_types_have_their_exact_names():
    assert QUESTION_TYPES == (
        "Modality Recognition",
        "Anatomy Identification",
        "Disease Diagnosis",
        "Lesion Grading",
        "Other Biological Attributes",
    )


@pytest.mark.parametrize("question_type", QUESTION_TYPES)
def test_the_keyed_option_is_the_only_true_one(question_type):
    for scene, question in asked(question_type, 300):
        true = TOPICS[question_type].key(scene)
        assert len(set(question.options)) == 4
        assert question.options[LETTERS.index(question.answer)] == true
        assert question.options.count(true) == 1
        assert question.rationale.startswith(scene.modality)
        assert question.rationale.endswith(f", so {true}.")


@pytest.mark.parametrize("question_type", QUESTION_TYPES)
def test_a_rationale_names_the_modality_what_was_asked_and_nothing_else(question_type):
    for scene, question in asked(question_type, 300):
        true = TOPICS[question_type].key(scene)
        labels = {label for _, choices in BALANCE.values() for label in choices}
        named = {label for label in labels if re.search(rf"(?<![\w-]){re.escape(label)}(?![\w-])", question.rationale)}
        assert named == {scene.modality, true}


def test_the_long_rationale_names_everything_and_ends_in_the_key():
    scene, _ = next(asked("Lesion Grading", 1))
    told = explain(scene, scene.grade)
    assert told == f"{describe(scene).rstrip('.')}, so {scene.grade}."
    assert {scene.modality, scene.anatomy, scene.finding, scene.grade, scene.quadrant} <= {
        label for _, choices in BALANCE.values() for label in choices if label in told
    }


@pytest.mark.parametrize("question_type", QUESTION_TYPES)
def test_a_guess_from_the_text_alone_is_at_chance(question_type):
    # The best blind strategy knows, for each option, how often it is the key when it is offered.
    keyed, offered = Counter(), Counter()
    for _, question in asked(question_type, 4000):
        offered.update(question.options)
        keyed[question.options[LETTERS.index(question.answer)]] += 1
    odds = {option: keyed[option] / offered[option] for option in offered}
    fresh = list(asked(question_type, 2000, seed=1))
    hits = sum(
        max(question.options, key=odds.__getitem__) == question.options[LETTERS.index(question.answer)]
        for _, question in fresh
    )
    assert hits / len(fresh) < 0.30


def test_letters_are_even():
    letters = Counter(question.answer for _, question in asked("Lesion Grading", 4000))
    assert set(letters) == set(LETTERS)
    assert max(letters.values()) < 1.15 * min(letters.values())


def test_the_three_text_formats():
    _, question = next(asked("Lesion Grading", 1))
    a, b, c, d = question.options
    assert question.prompt() == f"Question: {question.question} Options: A) {a} B) {b} C) {c} D) {d}"
    assert question.reply() == f"<think>{question.rationale}</think><answer>{question.answer}</answer>"
    assert list(json.loads(question.written())) == ["question", "options", "answer", "rationale"]
    assert "\n" not in question.written()
    assert generating_prompt("Lesion Grading", "") == "Task: write one Lesion Grading question. Report: none"


def test_no_phrasing_names_a_label():
    labels = defaultdict(set)
    for question_type in QUESTION_TYPES:
        for _, question in asked(question_type, 200):
            labels[question_type].update(option.lower() for option in question.options)
    for topic in TOPICS.values():
        for phrasing in topic.phrasings:
            words = set(phrasing.lower().rstrip("?").split())
            assert not words & {word for options in labels.values() for word in options}
