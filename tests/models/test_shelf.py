"""What the shelf finds again, and what it must not."""

from __future__ import annotations

from typing import Any

from medgr2.models.shelf import Shelf
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType

A, B, C = "a" * 64, "b" * 64, "c" * 64


def item(**changes: Any) -> Item:
    plain: dict[str, Any] = {
        "image_id": A,
        "question_type": QuestionType.DISEASE,
        "question": "What is the diagnosis?",
        "options": ("cyst", "nodule", "haemorrhage", "fibrosis"),
        "answer": "B",
        "rationale": "So nodule.",
    }
    return Item(**{**plain, **changes})


def test_several_items_of_one_image_and_key() -> None:
    far = [item(question=f"Question {n} of another kind altogether?", options=("nodule", "x", "y", f"z{n}"), answer="A")
           for n in range(3)]  # fmt: skip
    near = item(rationale="Another one, so nodule.")
    assert Shelf(far).twin(item()) is None
    assert Shelf([*far, near]).twin(item()) == near.item_id
    assert Shelf([near, *far]).twin(item()) == near.item_id
    assert Shelf([*far, item()]).twin(item()) is None


def test_the_key_is_compared_without_case_and_place() -> None:
    held = item(options=("Nodule.", "cyst", "fibrosis", "haemorrhage"), answer="A")
    assert Shelf([held]).twin(item()) == held.item_id
    assert Shelf([held]).twin(item(answer="A")) is None


def test_other_images_only_where_they_are_named() -> None:
    held = item(image_id=B)
    assert Shelf([held]).twin(item()) is None
    assert Shelf([held]).twin(item(), (A, B)) == held.item_id
    assert Shelf([held]).twin(item(), (A, C)) is None


def test_numbers_that_differ_by_their_dot_are_other_words() -> None:
    held = item(question="Is it 1.5 cm?", options=("a", "nodule", "b", "c"))
    assert Shelf([held]).twin(item(question="Is it 15 cm?", options=("d", "nodule", "b", "c"))) is None
