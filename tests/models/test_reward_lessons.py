"""Lessons of a reward: what holds, what was made of it, and what the generator got wrong, each with its share."""

from __future__ import annotations

import random

import pytest

from medgr2.models.perturbation_pool import Pool
from medgr2.models.perturbations import GRADES, perturbations
from medgr2.models.reward_lessons import (
    ERRORS,
    HOLDS,
    SPOILT,
    UNCERTAIN,
    WORTH,
    Lesson,
    Witness,
    Witnessed,
    lessons,
)
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType

SIDES = ("left lung", "right lung", "liver", "spleen")


def item(number: int) -> Item:
    key = SIDES[number % 4]
    return Item(
        image_id=sha256_hex(str(number // 2).encode()),
        question_type=QuestionType.ANATOMY,
        question=f"Which organ is marked in study {number}?",
        options=SIDES,
        answer="ABCD"[number % 4],
        rationale=f"The image shows the {key} clearly.",
    )


FOUND = [
    Witnessed(item(0), True, Witness.AUTHOR),
    Witnessed(item(1), True, Witness.AUDIT),
    Witnessed(item(2), True, Witness.SCORER),
    Witnessed(item(3), False, Witness.AUDIT),
    Witnessed(item(4), False, Witness.SCORER),
]
POOL = Pool([one.item for one in FOUND if one.holds])


def shares(taught: list[Lesson]) -> dict[str, float]:
    given = {one.item.item_id for one in FOUND}
    found = {"holds": 0.0, "errors": 0.0, "spoilt": 0.0}
    for one in taught:
        kind = "holds" if one.target == 1 else "errors" if one.item.item_id in given else "spoilt"
        found[kind] += one.weight
    return found


def test_every_kind_has_its_share_of_the_visits() -> None:
    taught = lessons(FOUND, POOL, "yes-no")
    assert shares(taught) == pytest.approx({"holds": HOLDS, "errors": ERRORS, "spoilt": SPOILT})
    assert {one.item.item_id for one in taught if one.target == 1} == {f.item.item_id for f in FOUND if f.holds}
    assert all(one.target == 0 for one in taught if one.item.item_id in {item(3).item_id, item(4).item_id})


def test_what_a_scorer_is_sure_of_counts_less_than_what_people_say() -> None:
    weight = {one.item.item_id: one.weight for one in lessons(FOUND, POOL, "yes-no")}
    assert weight[item(2).item_id] == pytest.approx(WORTH[Witness.SCORER] * weight[item(0).item_id])
    assert weight[item(1).item_id] == pytest.approx(weight[item(0).item_id])
    assert weight[item(4).item_id] == pytest.approx(WORTH[Witness.SCORER] * weight[item(3).item_id])


def test_a_flaw_that_may_be_none_counts_less() -> None:
    made = {one.item.item_id: one.certain for one in perturbations(item(0), POOL)}
    assert set(made.values()) == {True, False}
    weight = {one.item.item_id: one.weight for one in lessons(FOUND, POOL, "yes-no") if one.item.item_id in made}
    sure = {weight[i] for i, certain in made.items() if certain}
    unsure = {weight[i] for i, certain in made.items() if not certain}
    assert max(unsure) == pytest.approx(UNCERTAIN * min(sure))


def test_the_order_of_what_was_found_does_not_matter() -> None:
    mixed = random.Random(3).sample(FOUND, len(FOUND))
    for form in ("yes-no", "head"):
        assert lessons(mixed, POOL, form) == lessons(FOUND, POOL, form)  # type: ignore[arg-type]
    assert lessons(FOUND, POOL, "yes-no", seed=1) != lessons(FOUND, POOL, "yes-no")


def test_without_errors_only_what_was_made_is_wrong() -> None:
    good = [one for one in FOUND if one.holds]
    assert {one.target for one in lessons(good, POOL, "yes-no")} == {0.0, 1.0}


@pytest.mark.parametrize("found", [[], [one for one in FOUND if not one.holds]])
def test_where_nothing_holds_nothing_can_be_told_apart(found: list[Witnessed]) -> None:
    with pytest.raises(DataError, match="0 claims hold"):
        lessons(found, POOL, "yes-no")


def test_the_published_recipe_grades_rewrites_of_what_holds_alone() -> None:
    taught = lessons(FOUND, POOL, "head")
    assert {one.target for one in taught} == set(GRADES.values())
    assert {one.item.item_id for one in taught if one.target == GRADES["original"]} == {
        one.item.item_id for one in FOUND if one.holds
    }
    assert not {item(3).item_id, item(4).item_id} & {one.item.item_id for one in taught}
