"""Balance: a surplus of keys goes, luck stays, and what cannot be mended is left alone."""

from __future__ import annotations

import random
from collections import Counter

from medgr2.models.balance import by_key, by_letter, surplus
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType

LABELS = ("one", "two", "three", "four", "five", "six")


def item(at: int, options: list[str], key: str, kind: QuestionType = QuestionType.DISEASE) -> Item:
    return Item(
        image_id=sha256_hex(str(at).encode()), question_type=kind, question="Which?", options=tuple(options),
        answer="ABCDE"[options.index(key)], rationale=f"It is {key}.",
    )  # fmt: skip


def drawn(
    number: int, weights: tuple[int, ...], seed: int = 1, kind: QuestionType = QuestionType.DISEASE
) -> list[Item]:
    rng = random.Random(seed)
    items = []
    for at in range(number):
        key = rng.choices(LABELS, weights)[0]
        options = [key, *rng.sample([label for label in LABELS if label != key], 3)]
        rng.shuffle(options)
        items.append(item(at, options, key, kind))
    return items


def shares(items: list[Item]) -> dict[str, float]:
    shown = Counter(option for one in items for option in one.options)
    keyed = Counter(one.key_text for one in items)
    return {label: keyed[label] / n for label, n in shown.items()}


def test_luck_is_left_alone() -> None:
    dropped = [len(surplus(drawn(300, (1,) * 6, seed), by_key)) for seed in range(20)]
    assert dropped.count(0) >= 18  # one batch in a hundred loses anything


def test_a_surplus_goes_from_the_end_of_the_ranking() -> None:
    items = drawn(1000, (5, 1, 1, 1, 1, 1))
    dropped = surplus(items, by_key)
    kept = [one for one in items if one.item_id not in dropped]
    assert sum(one.key_text == "one" for one in items if one.item_id in dropped) > 0.9 * len(dropped)
    assert shares(items)["one"] > 0.6
    assert all(abs(share - 0.25) < 0.06 for share in shares(kept).values())
    last = max(at for at, one in enumerate(items) if one.key_text == "one" and one.item_id not in dropped)
    assert all(at > last for at, one in enumerate(items) if one.item_id in dropped and one.key_text == "one")


def test_several_labels_with_a_surplus() -> None:
    items = drawn(2000, (6, 3, 1, 1, 1, 1))
    dropped = surplus(items, by_key)
    kept = [one for one in items if one.item_id not in dropped]
    assert all(abs(share - 0.25) < 0.06 for share in shares(kept).values())
    assert {one.key_text for one in kept} == set(LABELS)


def test_labels_of_two_question_types_do_not_make_up_for_each_other() -> None:
    odd = drawn(500, (6, 1, 1, 1, 1, 1))
    other = drawn(500, (1, 6, 6, 6, 6, 6), seed=2, kind=QuestionType.ATTRIBUTE)
    dropped = surplus([*odd, *other], by_key)
    assert any(one.item_id in dropped for one in odd)


def test_a_label_that_is_never_the_key_is_left_to_the_probe() -> None:
    items = [item(at, ["one", "two", "three", "artefact"], ("one", "two", "three")[at % 3]) for at in range(900)]
    assert surplus(items, by_key) == frozenset()


def test_items_of_fewer_options_want_fewer_letters() -> None:
    """Two options: A and B are each due half."""
    items = [item(at, ["one", "two"], ("one", "two")[at % 2]) for at in range(500)]
    assert surplus(items, by_letter) == frozenset()
    assert surplus([one for one in items if one.answer == "A" or int(one.item_id, 16) % 3 == 0], by_letter)


def test_many_labels_that_are_a_little_uneven_are_uneven_together() -> None:
    """No label of its own is beyond luck."""
    rng = random.Random(4)
    labels = [f"label {at}" for at in range(40)]
    items = []
    for at in range(1200):
        key = rng.choices(labels, [3, 1] * 20)[0]
        options = [key, *rng.sample([label for label in labels if label != key], 3)]
        items.append(item(at, rng.sample(options, 4), key))
    dropped = surplus(items, by_key)
    assert 0.1 * len(items) < len(dropped) < 0.5 * len(items)
    gone = [int(one.key_text.split()[1]) % 2 for one in items if one.item_id in dropped]
    assert gone.count(0) > 0.9 * len(gone)


def test_texts_of_their_own_are_no_label() -> None:
    items = [item(at, [f"{name} {at}" for name in ("w", "x", "y", "z")], f"w {at}") for at in range(200)]
    assert surplus(items, by_key) == frozenset()


def test_a_label_may_go_altogether() -> None:
    """Whatever is dropped, and however small the batch, the others are still counted right."""
    rng = random.Random(2)
    for seed in range(60):
        number = rng.randrange(5, 60)
        items = drawn(number, (30, 1, 1, 1, 1, 1), seed)
        items += [item(n, ["p", "q", "r", "one"], "p", QuestionType.GRADING) for n in range(rng.randrange(20))]
        dropped = surplus(items, by_key)
        assert dropped < {one.item_id for one in items}
        assert len(dropped) <= 0.75 * len(items) + 2  # one more in each of two question types


def test_nothing_is_nothing() -> None:
    assert surplus([], by_key) == frozenset()
