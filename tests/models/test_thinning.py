"""Thinning: what is left of a batch teaches no rule any more, or nothing of it is let through."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from leaky_batches import Write, batch

from medgr2.models.blind_probe import MARGIN, probe
from medgr2.models.blind_rule import Looks
from medgr2.models.thinning import Rest, thin
from medgr2.schemas.items import Item
from medgr2.schemas.probe import Probed


def often_a(number: int, seed: int = 3) -> list[Item]:
    """The key is twice as often at A as anywhere else."""
    return batch(number, places=(2, 1, 1, 1), seed=seed)


def thinned(items: Sequence[Item]) -> Rest | None:
    found = probe(items)
    assert found.verdict is Probed.LEAKS
    return thin(items, found)


def told_of(fresh: Sequence[Item], learned: Sequence[Item]) -> float:
    """What a rule that learned from some tells of items that were drawn anew."""
    looks = Looks([*learned, *fresh])
    said = looks.said(looks.weights(range(len(learned))))
    places = range(len(learned), len(looks.all))
    return sum(looks.credit(at, said[at]) for at in places) / len(places)


def hedged(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
    return (f"likely {key}" if rng.random() < 0.15 else key), rivals


CASES: dict[str, dict[str, object]] = {
    "a label": {"number": 600, "prior": (3, 1, 1, 1, 1, 1)},
    "a letter": {"number": 380, "places": (2, 1, 1, 1)},
    "a word": {"number": 600, "write": hedged},
}


@pytest.mark.parametrize("told_by", CASES)
def test_what_is_left_teaches_nothing_about_items_that_are_drawn_anew(told_by: str) -> None:
    how = CASES[told_by]
    items = batch(**how)  # type: ignore[arg-type]
    rest = thinned(items)
    assert rest is not None
    kept = [item for item in items if item.item_id not in rest.dropped]
    fresh = batch(**{**how, "number": 2000, "seed": 77})  # type: ignore[arg-type]
    assert told_of(fresh, items) > 0.33
    # It is measured on few hundred items: no more than the margin there, and not twice as much in truth.
    assert told_of(fresh, kept) < 0.25 + 2 * MARGIN
    assert told_of(fresh, kept) - 0.25 < (told_of(fresh, items) - 0.25) / 2
    assert rest.probe.verdict is not Probed.LEAKS
    assert rest.probe.items == len(kept) >= len(items) / 2
    told = rest.probe.thinned
    assert told is not None
    assert (told.dropped, told.whole) == (len(rest.dropped), probe(items).accuracy)
    assert told.taught <= 0.25 + MARGIN
    assert abs(told.taught - told_of(fresh, kept)) < 0.06


def test_dropping_what_the_probe_gets_right_is_not_enough() -> None:
    """Those that the probe was right about are gone, so it is right less often; what is left teaches the same."""
    items = sorted(often_a(600), key=lambda item: item.item_id)
    right = [item.item_id for item in items if item.answer == "A"]
    kept = [item for item in items if item.item_id not in right[: len(items) // 10]]
    assert (probe(kept).accuracy or 1) < (probe(items).accuracy or 0) - 0.05
    assert told_of(often_a(2000, 77), kept) > 0.33
    rest = thinned(items)
    assert rest is not None
    assert len(rest.dropped) > len(items) / 10


def odd_words(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
    return ("likely " if rng.random() < 0.7 else "possible ") + key, ["possible " + rival for rival in rivals]


def never_the_key(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
    return key, [*rivals[:2], "artefact"]


@pytest.mark.parametrize(("write", "number"), [(odd_words, 600), (never_the_key, 1600)])
def test_where_the_wording_is_at_fault_nothing_is_enough(write: Write, number: int) -> None:
    assert thinned(batch(number, write=write)) is None


def test_of_few_items_it_is_never_shown() -> None:
    assert thinned(batch(80, places=(8, 1, 1, 1))) is None
    one = batch(2)
    assert thin(one, probe(one)) is None


def test_many_items_about_few_images_are_few() -> None:
    assert thinned(batch(400, places=(8, 1, 1, 1), an_image=100)) is None


def test_the_order_of_the_items_does_not_matter() -> None:
    items = often_a(400)
    assert thinned(items) == thinned(items[::-1])
