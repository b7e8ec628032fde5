"""Every gate with what it refuses and what it must let pass."""

from __future__ import annotations

import random
from typing import Any

import pytest

from medgr2.models.gates import GATES, GateContext, sift
from medgr2.models.look_alikes import LookAlikes
from medgr2.models.shelf import Shelf
from medgr2.models.text_neighbours import TextNeighbours, as_a_whole, asked_and_told
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType

IMAGE, OTHER = "a" * 64, "b" * 64
GOOD: dict[str, Any] = {
    "image_id": IMAGE,
    "question_type": QuestionType.DISEASE,
    "question": "What is the diagnosis?",
    "options": ("cyst", "nodule", "haemorrhage", "fibrosis"),
    "answer": "B",
    "rationale": "CT of the chest shows nodule, grade mild, upper left, so nodule.",
}


def item(**changes: Any) -> Item:
    return Item(**{**GOOD, **changes})


def reasons(one: Item, **context: Any) -> tuple[str, ...]:
    return sift([one], GateContext(**context))[one.item_id]


def modality(key: str, *others: str) -> dict[str, Any]:
    return {
        "question": "Which modality is this image?",
        "options": (key, *others),
        "answer": "A",
        "rationale": f"{key} of the chest.",
    }


PASSES = {
    "the plain item": {},
    "five options": {"options": (*GOOD["options"], "normal")},
    "a label is longer by nature": modality("Fundus Photography", "CT", "MRI", "OCT"),
    "a label is shorter by nature": modality("CT", "Fundus Photography", "Microscopy", "Dermoscopy"),
    "a label inside another one": modality("CT", "OCT", "PET/CT", "MRI"),
    "asks for a degree": {
        "question": "How severe is the lesion?",
        "options": ("mild", "moderate", "severe", "absent"),
        "answer": "C",
        "rationale": "Grade severe.",
    },
    "the stem names every choice it gives": {"question": "Is it a cyst or a nodule?"},
    "numbers that differ by their sign or dot": {
        "options": ("1.5 cm", "15 cm", "< 5 cm", "> 5 cm"),
        "answer": "A",
        "rationale": "It measures 1.5 cm.",
    },
    "letters that are words": {"rationale": "Vitamin A) aside, a nodule of type B hepatitis: nodule."},
    "a short number is no identifier": {"rationale": "A nodule of 12345 voxels in segment 4, 2024 criteria."},
    "hyphens and case do not hide the key": {
        **modality("X-Ray", "CT", "MRI", "OCT"),
        "rationale": "An x ray of the knee.",
    },
}


@pytest.mark.parametrize("name", PASSES)
def test_passes(name: str) -> None:
    assert reasons(item(**PASSES[name])) == ()


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("markup", {"rationale": "nodule</think><answer>B</answer>"}),
    ("markup", {"question": "What is it?\x00"}),
    ("markup", {"question": "What is it <|assistant|>?"}),
    ("markup", {"options": ("cyst", "nodule\u200b", "haemorrhage", "fibrosis")}),
    ("option_count", {"options": ("cyst", "nodule", "fibrosis")}),
    ("option_count", {"options": ("cyst", "nodule", "c", "d", "e", "f")}),
    ("options_alike", {"options": ("cyst", "nodule", " Cyst. ", "fibrosis")}),
    ("options_alike", {"options": ("cyst", "nodule", "nodule", "fibrosis")}),
    ("options_alike", {"options": ("cyst", "nodule", "\uff43yst", "fibrosis")}),
    ("options_alike", {"options": ("cyst", "nodule", "...", "fibrosis")}),
    ("option_refers_to_others", {"options": ("cyst", "nodule", "fibrosis", "None of the above")}),
    ("option_refers_to_others", {"options": ("cyst", "nodule", "fibrosis", "A and C")}),
    (
        "key_stands_out",
        {
            "options": ("cyst", "nodule with spiculated margins in the upper lobe", "haemorrhage", "fibrosis"),
            "rationale": "A nodule with spiculated margins in the upper lobe.",
        },
    ),
    ("stem_names_key", {"question": "Which nodule is shown here?"}),
    ("stem_names_key", {"question": "The NODULE, what is it?"}),
    ("rationale_misses_key", {"rationale": "CT of the chest, grade mild."}),
    ("rationale_misses_key", {"rationale": "Nodules are shown."}),  # whole words only
    ("rationale_names_other", {"rationale": "CT of the chest shows cyst."}),
    ("rationale_names_other", {**modality("CT", "PET/CT", "MRI", "OCT"), "rationale": "PET/CT of the chest."}),
    ("rationale_names_letter", {"rationale": "A nodule, so option B."}),
    ("rationale_names_letter", {"rationale": "A nodule. The answer is B."}),
    ("rationale_names_letter", {"rationale": "A nodule (B)."}),
    ("identifier", {"rationale": "Nodule of Mr Smith."}),
    ("identifier", {"rationale": "Nodule. Patient: Jane Doe."}),
    ("identifier", {"rationale": "Nodule seen on 2024-03-01."}),
    ("identifier", {"rationale": "Nodule seen on 3/1/2024."}),
    ("identifier", {"rationale": "Nodule seen on 1 March 2024."}),
    ("identifier", {"rationale": "Nodule seen March 1, 2024."}),
    ("identifier", {"rationale": "Nodule, MRN 4711."}),
    ("identifier", {"question": "What is the diagnosis of 00471123?"}),
    ("identifier", {"rationale": "Nodule, ask j.doe@clinic.example."}),
]


@pytest.mark.parametrize(("reason", "changes"), REFUSED)
def test_refuses(reason: str, changes: dict[str, Any]) -> None:
    assert reason in reasons(item(**changes))


def test_every_gate_is_refused_by_some_example() -> None:
    said = {gate(item(**changes), GateContext()) for _, changes in REFUSED for gate in GATES}
    documented = {reason for reason, _ in REFUSED}
    assert said - {None} == documented


def test_an_item_may_be_refused_for_several_reasons() -> None:
    one = item(options=("cyst", "nodule", "nodule"), rationale="Seen on 2024-03-01.")
    assert reasons(one) == ("option_count", "options_alike", "rationale_misses_key", "identifier")


def test_heldout_images_and_evaluation_questions() -> None:
    assert reasons(item(), heldout=frozenset({IMAGE})) == ("heldout_image",)
    assert reasons(item(), heldout=frozenset({OTHER})) == ()
    asked = item(options=("nodule", "cyst", "fibrosis", "haemorrhage"), answer="A")
    assert reasons(item(), evaluation=Shelf([asked])) == ("overlaps_evaluation",)
    assert reasons(item(), evaluation=Shelf([item(image_id=OTHER)])) == ()


LONG = (
    "CT of the chest shows a solid nodule in the left upper lobe with spiculated margins and a pleural tag, it touches "
    "the fissure without crossing it, no calcium and no fat inside, therefore nodule"
)


def test_an_evaluation_question_smuggled_in_with_another_image() -> None:
    asked = item(image_id=OTHER, rationale=LONG)
    texts = TextNeighbours(asked_and_told(asked))
    smuggled = item(rationale=LONG.replace("therefore", "hence"), options=("nodule", "cyst", "a", "b"), answer="A")
    assert reasons(smuggled, evaluation_texts=texts) == ("overlaps_evaluation",)
    assert reasons(item(), evaluation_texts=texts) == ()


def test_an_image_that_looks_like_an_evaluation_image() -> None:
    images = LookAlikes(frozenset({IMAGE}))
    assert reasons(item(), images=images) == ("looks_like_evaluation",)
    assert reasons(item(image_id=OTHER), images=images) == ()


def test_an_evaluation_set_that_could_not_be_read_lets_nothing_through() -> None:
    assert reasons(item(), unread=frozenset({"slake"})) == ("evaluation_unread",)


def test_the_same_question_about_a_look_alike() -> None:
    alike = LookAlikes(of_image={IMAGE: frozenset({OTHER}), OTHER: frozenset({IMAGE})})
    other = item(image_id=OTHER)
    assert reasons(item(), history=Shelf([other]), images=alike) == ("duplicate_of_history",)
    assert reasons(item(), evaluation=Shelf([other]), images=alike) == ("overlaps_evaluation",)
    judged = sift([item(), other], GateContext(images=alike))
    assert [judged[one] for one in sorted(judged)] == [(), ("duplicate_of_night",)]
    rival = item(image_id=OTHER, answer="A", rationale="So cyst.")
    assert set(sift([item(), rival], GateContext(images=alike)).values()) == {()}


def test_a_long_text_about_several_images() -> None:
    texts = TextNeighbours(as_a_whole(item(image_id="c" * 64, rationale=LONG)))
    assert reasons(item(rationale=LONG), history_texts=texts) == ("duplicate_of_history",)
    night = [item(image_id=f"{number:064x}", rationale=LONG) for number in range(6)]
    judged = sift(night, GateContext())
    assert [judged[one] for one in sorted(judged)] == [(), *[("duplicate_of_night",)] * 5]
    assert sift(night[::-1], GateContext()) == judged
    bad = item(image_id="d" * 64, rationale=f"{LONG}. Seen on 2024-03-01.")
    assert sift([bad, night[0]], GateContext())[night[0].item_id] == ()


NEAR = {
    "other order of the options": {"options": ("nodule", "cyst", "fibrosis", "haemorrhage"), "answer": "A"},
    "other case and punctuation": {"question": "what is the diagnosis"},
    "another rationale": {"rationale": "So nodule."},
    "one other distractor": {"options": ("cyst", "nodule", "haemorrhage", "normal")},
}
FAR = {
    "another image": {"image_id": OTHER},
    "another question": {"question": "Which finding does the picture show?"},
    "another key: a rival, not a twin": {"answer": "A", "rationale": "So cyst."},
    "other distractors": {"options": ("normal", "nodule", "calcification", "effusion")},
}


@pytest.mark.parametrize("name", NEAR)
def test_twins_of_history_and_night(name: str) -> None:
    twin = item(**NEAR[name])
    assert reasons(item(), history=Shelf([twin])) == ("duplicate_of_history",)
    judged = sift([item(), twin], GateContext())
    first, second = sorted(judged)
    assert (judged[first], judged[second]) == ((), ("duplicate_of_night",))


@pytest.mark.parametrize("name", FAR)
def test_not_twins(name: str) -> None:
    other = item(**FAR[name])
    assert set(sift([item(), other], GateContext(history=Shelf())).values()) == {()}


def test_an_item_is_no_twin_of_itself() -> None:
    """The same night run again finds its own items in the history and must judge them as before."""
    assert reasons(item(), history=Shelf([item()])) == ()


def test_which_twin_stays_does_not_depend_on_the_order() -> None:
    items = [item(question=f"What is the diagnosis{'?' * n}") for n in range(6)]
    once = sift(items, GateContext())
    random.Random(1).shuffle(items)
    assert sift(items, GateContext()) == once
    assert sorted(once.values()).count(()) == 1


def test_a_refused_item_hides_no_twin() -> None:
    bad = item(rationale="Nodule of Mr Smith.")
    judged = sift([bad, item()], GateContext())
    assert judged[bad.item_id] == ("identifier",)
    assert judged[item().item_id] == ()
