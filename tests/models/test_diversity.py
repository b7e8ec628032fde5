"""Diversity of drafts: even is 1, the same again and again is seen, and the quota that would help is named."""

from __future__ import annotations

import pytest

from medgr2.models.diversity import diversity
from medgr2.schemas.items import Item
from medgr2.schemas.reports import Diversity
from medgr2.schemas.vocabulary import QuestionType

TYPES = list(QuestionType)
WORDS = ["liver", "lung", "bone", "heart", "kidney", "spleen", "nerve", "vessel", "skin", "retina", "colon", "marrow"]


def item(n: int, question: str, kind: QuestionType = QuestionType.DISEASE, options: str = "abcd") -> Item:
    return Item(
        image_id=f"{n:064x}", question_type=kind, question=question, options=tuple(options), answer="A", rationale="a."
    )


def different(n: int) -> str:
    return " ".join(f"{word}{n}" for word in WORDS[:8])


def of(items: list[Item], **kinds: int) -> Diversity:
    modality = {one.image_id: ("CT", "MRI")[int(one.image_id, 16) % 2] for one in items}
    return diversity(items, modality, **{"types": 5, "modalities": 2, **kinds})


def test_an_even_spread_of_different_questions() -> None:
    found = of([item(n, different(n), TYPES[n % 5]) for n in range(50)])
    assert (found.drafts, found.looked_at, found.type_entropy, found.modality_entropy) == (50, 50, 1.0, 1.0)
    assert (found.near_duplicates, found.hints) == (0.0, ())
    assert found.distinct[2] == 1.0
    assert found.question_types == dict.fromkeys(sorted(TYPES), 10)
    assert found.letters == {"A": 50}


def test_one_kind_alone_has_no_entropy_and_is_told_its_quota() -> None:
    items = [item(n, different(n), TYPES[0] if n else TYPES[1]) for n in range(10)]
    found = of(items)
    assert 0 < found.type_entropy < 0.3
    assert found.hints == (
        "Modality Recognition is 90% of the drafts, its even share is 20%: to ask for less of it, "
        'set quotas {"Modality Recognition": 0.22}',
    )
    assert found.line().count("\n") == 1


def test_where_there_is_no_choice_there_is_nothing_to_spread() -> None:
    items = [item(2 * n, different(n)) for n in range(4)]
    found = of(items, types=1, modalities=1)
    assert (found.type_entropy, found.modality_entropy, found.hints) == (1.0, 1.0, ())


def test_ngrams_are_those_of_the_questions() -> None:
    found = of([item(n, "what is it") for n in range(4)])
    assert found.distinct == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("shuffled", [False, True])
def test_what_says_the_same_of_other_pictures_is_a_near_duplicate(shuffled: bool) -> None:
    same = [item(n, "Which organ is shown here?", options="badc" if shuffled and n % 2 else "abcd") for n in range(10)]
    assert of(same).near_duplicates == 0.9
    near = [item(n, f"{different(3)} {different(4)} {different(5)} of picture {n}") for n in range(10)]
    assert of(near).near_duplicates == 0.9
    assert of([*near, *(item(50 + n, different(50 + n)) for n in range(10))]).near_duplicates == 0.45


def test_it_is_the_same_in_any_order() -> None:
    items = [item(n, different(n % 7) + f" {n % 3}", TYPES[n % 4]) for n in range(60)]
    assert of(items) == of(items[::-1])


def test_nothing_is_nothing() -> None:
    found = of([])
    assert (found.drafts, found.type_entropy, found.near_duplicates, found.distinct) == (0, 0.0, 0.0, (0.0, 0.0, 0.0))
