"""Which texts count as repetitions, and which never do."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from medgr2.models.text_neighbours import (
    ALIKE,
    FEW,
    LEAST_OF_A_PART,
    LEAST_OF_THE_WHOLE,
    TextNeighbours,
    as_a_whole,
    asked_and_told,
    jaccard,
)
from medgr2.models.texts import shingles
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType
from medgr2_phantoms.questions import QUESTION_TYPES, ask
from medgr2_phantoms.world import sample_scene

LONG = (
    "A ring enhancing mass with surrounding oedema displaces the midline, its wall is thick and uneven along the inner "
    "margin, the centre does not enhance and restricts diffusion less than pus would, which speaks for glioblastoma"
)


def image(number: int) -> str:
    return f"{number:064x}"


def item(number: int = 1, **changes: Any) -> Item:
    plain: dict[str, Any] = {
        "image_id": f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" + "0" * 48,
        "question_type": QuestionType.DISEASE,
        "question": "What is the diagnosis?",
        "options": ("abscess", "glioblastoma", "metastasis", "lymphoma"),
        "answer": "B",
        "rationale": LONG,
    }
    return Item(**{**plain, **changes})


def whole(*items: Item, **how: Any) -> TextNeighbours:
    return TextNeighbours((text for one in items for text in as_a_whole(one)), **how)


def parts(*items: Item) -> TextNeighbours:
    return TextNeighbours(text for one in items for text in asked_and_told(one))


def repeats(held: TextNeighbours, one: Item) -> bool:
    return any(held.twin(text) for text in as_a_whole(one))


def leaks(held: TextNeighbours, one: Item) -> bool:
    return any(held.twin(text) for text in asked_and_told(one))


def test_a_long_text_about_another_image_repeats() -> None:
    held = item()
    assert [whole(held).twin(text) for text in as_a_whole(item(2))] == [held.item_id]
    shuffled = item(2, options=("lymphoma", "metastasis", "abscess", "glioblastoma"), answer="D")
    assert repeats(whole(held), shuffled)
    assert repeats(whole(held), item(2, rationale=LONG.replace("thick", "broad").upper()))
    assert not repeats(whole(held), item(2, rationale=" ".join(reversed(LONG.split()))))


def test_another_key_is_a_rival_and_a_leak_all_the_same() -> None:
    other = item(2, answer="A")
    assert not repeats(whole(item()), other)
    assert leaks(parts(item()), other)


def test_a_question_of_a_benchmark_comes_without_a_rationale() -> None:
    question = "Which of the following best explains the ring enhancing mass with oedema in the left temporal lobe?"
    exam = item(rationale="", question=question)
    assert leaks(parts(exam), item(2, question=question, rationale="Another one, so glioblastoma."))
    assert leaks(parts(exam), item(2, question=question.replace("left temporal", "temporal"), rationale="glioblastoma"))
    assert not leaks(parts(item(rationale="")), item(2))


def test_an_item_repeats_no_other_version_of_itself() -> None:
    assert not repeats(whole(item()), item())
    assert not leaks(parts(item()), item())


def test_a_short_text_repeats_nothing() -> None:
    short = "A ring enhancing mass, so glioblastoma."
    assert not repeats(whole(item(rationale=short)), item(2, rationale=short))
    assert not leaks(parts(item(rationale=short)), item(2, rationale=short))


def test_what_is_said_of_many_images_is_a_template() -> None:
    many = [item(n) for n in range(1, FEW + 2)]
    assert repeats(whole(*many[:FEW]), item(99))
    assert not repeats(whole(*many), item(99))
    # The same image again and again makes no template.
    again = [item(1, question=f"What is the diagnosis of lesion {n}?") for n in range(FEW + 2)]
    assert repeats(whole(*again), item(99))


def test_what_tonight_repeats_does_not_become_a_template_tonight() -> None:
    """Else a leak would only have to be written often enough."""
    tonight = whole(*(item(n) for n in range(1, FEW + 5)), like=whole(item(50)))
    assert repeats(tonight, item(99))


def test_only_what_is_shown_is_found() -> None:
    tonight = whole(item(1), item(2), shown=False)
    assert not repeats(tonight, item(3))
    tonight.show(1)
    assert [tonight.twin(text) for text in as_a_whole(item(3))] == [item(2).item_id]


def test_nothing_held() -> None:
    assert len(TextNeighbours()) == 0
    assert not repeats(TextNeighbours(), item())
    assert not repeats(whole(item(rationale="")), item())


def test_the_embedded_world_is_all_templates() -> None:
    draw = np.random.default_rng(3)
    said = [ask(sample_scene(draw), QUESTION_TYPES[n % 5], draw) for n in range(300)]
    for one in said:
        assert len(shingles(one.question, *one.options)) < LEAST_OF_A_PART
        assert len(shingles(one.rationale)) < LEAST_OF_A_PART
        assert len(shingles(one.question, *one.options, one.rationale)) < LEAST_OF_THE_WHOLE


@pytest.mark.parametrize("seed", range(3))
def test_the_sketch_against_every_pair(seed: int) -> None:
    """Nothing below the threshold is found; above it, as good as everything."""
    draw = random.Random(seed)
    lexicon = [f"word{n}" for n in range(2000)]
    held = [item(n, rationale=" ".join(draw.choices(lexicon, k=60))) for n in range(1, 200)]
    shelf, missed, found = whole(*held), 0, 0
    said = {text.item_id: np.setdiff1d(text.shingles, shelf.common) for one in held for text in as_a_whole(one)}
    for number, one in enumerate(held):
        told = one.rationale.split()
        for place in draw.sample(range(60), number % 9):
            told[place] = "else"
        copy = next(as_a_whole(one.model_copy(update={"image_id": image(number), "rationale": " ".join(told)})))
        specific = np.setdiff1d(copy.shingles, shelf.common)
        near = [other for other, words in said.items() if jaccard(specific, words) >= ALIKE]
        twin = shelf.twin(copy)
        assert twin is None or twin in near
        missed += bool(near) and twin is None
        found += twin is not None
    assert found > 50
    assert missed <= 1


def test_shingles() -> None:
    assert len(shingles("one two three four")) == 2
    assert len(shingles("one two")) == len(shingles("one")) == 1
    assert len(shingles("", "...")) == 0
    assert shingles("a b c", "d e f").tolist() == shingles("d e f", "A  b, C").tolist()
    assert shingles("a b c d e").tolist() != shingles("c d e a b").tolist()
    assert shingles("the left lung", "x").tolist() != shingles("the right lung", "x").tolist()
