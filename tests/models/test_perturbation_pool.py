"""The pool of good items: what else is asked of which picture, found without looking at all of them for each."""

from __future__ import annotations

from random import Random

import pytest

from medgr2.models import perturbation_pool
from medgr2.models.perturbation_pool import APART, Pool
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType

ORGANS, FINDINGS = ("liver", "spleen", "left lung", "heart"), ("cyst", "nodule", "effusion", "fracture")


def item(picture: int, question_type: QuestionType, key: int) -> Item:
    return Item(
        image_id=sha256_hex(f"picture {picture}".encode()),
        question_type=question_type,
        question="Which one is shown?",
        options=ORGANS if question_type is QuestionType.ANATOMY else FINDINGS,
        answer="ABCD"[key],
        rationale="It is the one that is shown.",
    )


ITEMS = [item(n // 2, (QuestionType.ANATOMY, QuestionType.DISEASE)[n % 2], n % 3) for n in range(60)]
MODALITY = {one.image_id: ("CT", "MRI", "")[n // 2 % 3] for n, one in enumerate(ITEMS)}
STRANGER = item(999, QuestionType.ANATOMY, 0)


@pytest.mark.parametrize("asked", [*ITEMS[:6], STRANGER], ids=str)
def test_others_are_those_of_another_type_about_another_picture(asked: Item) -> None:
    pool = Pool(ITEMS, MODALITY)
    others = pool.other_items(asked, apart=True)
    own = asked.question_type
    expected = [o for o in pool.items if frozenset((own, o.question_type)) in APART and o.image_id != asked.image_id]
    assert list(others) == expected
    assert [others[n] for n in range(-len(others), 0)] == expected
    assert others[3:7] == expected[3:7]
    with pytest.raises(IndexError):
        others[len(others)]


@pytest.mark.parametrize("asked", [*ITEMS[:6], STRANGER], ids=str)
def test_another_picture_is_one_of_which_the_key_is_known_not_to_be_true(asked: Item) -> None:
    pool = Pool([*ITEMS, item(70, asked.question_type, 3)], MODALITY)
    found = {pool.other_picture(asked, Random(seed)) for seed in range(200)}
    same = [o for o in ITEMS if o.question_type is asked.question_type and o.key_text != asked.key_text]
    able = {o.image_id for o in [*same, item(70, asked.question_type, 3)]} - {asked.image_id}
    alike = {image for image in able if MODALITY.get(image) and MODALITY.get(image) == MODALITY.get(asked.image_id)}
    assert found == (alike or able)


def test_a_picture_is_looked_at_once_for_each_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, looked = Pool(ITEMS, MODALITY), []
    really = Pool._false_of
    monkeypatch.setattr(
        perturbation_pool.Pool, "_false_of", lambda self, one, image: looked.append(image) or really(self, one, image)
    )
    for one in ITEMS * 3:
        pool.other_picture(one, Random(0))
    answers = {(one.question_type, one.key_text) for one in ITEMS}
    assert 0 < len(looked) <= len(answers) * len(MODALITY)
