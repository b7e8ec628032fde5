"""Label rings: enough labels, fairly spread, and moved by nothing that is no concern of theirs."""

from __future__ import annotations

from collections import Counter

from medgr2.tasks.label_rings import RINGS, STILL, LabelRings

ALWAYS = {(0, STILL)}
LABELS = [f"label {n}" for n in range(100)]
IMAGES = [f"{n:064x}" for n in range(2000)]


def of(labels: list[str]) -> LabelRings:
    return LabelRings(dict.fromkeys(labels, ALWAYS))


def test_each_image_gets_its_own_and_all_labels_are_used() -> None:
    rings = of(LABELS)
    taken = [rings.take(image, 5, ()) for image in IMAGES]
    assert all(len(set(some)) == RINGS for some in taken)
    assert taken == [of(LABELS[::-1]).take(image, 5, ()) for image in IMAGES]
    counts = Counter(label for some in taken for label in some)
    assert set(counts) == set(LABELS)
    assert max(counts.values()) < 4 * 2000 * RINGS / 100
    assert len({frozenset(some) for some in taken}) > 1900


def test_a_label_less_moves_only_those_that_had_it() -> None:
    before, after = of(LABELS), of(LABELS[1:])
    moved = 0
    for image in IMAGES:
        was, now = before.take(image, 5, ()), after.take(image, 5, ())
        assert was == now or "label 0" in was
        moved += was != now
    assert 0 < moved < 2000 * RINGS * 4 / 100


def test_few_labels_are_all_taken_and_none_that_is_not_wanted() -> None:
    few = of(["cyst", "Nodule", "fracture"])
    assert set(few.take(IMAGES[0], 5, ())) == {"cyst", "Nodule", "fracture"}
    assert set(few.take(IMAGES[0], 5, {"nodule"})) == {"cyst", "fracture"}
    assert few.take(IMAGES[0], 5, {"nodule", "cyst", "fracture"}) == ()
    assert of([]).take(IMAGES[0], 5, ()) == ()


def test_only_what_was_told_at_that_time_and_as_it_was_written_then() -> None:
    rings = LabelRings({"cyst": {(0, 10)}, "Cyst": {(10, STILL)}, "late": {(20, STILL)}, "again": {(0, 5), (15, 25)}})
    told = {then: set(rings.take(IMAGES[0], then, ())) for then in (0, 5, 10, 15, 20, 25)}
    assert told == {
        0: {"cyst", "again"}, 5: {"cyst"}, 10: {"Cyst"}, 15: {"Cyst", "again"}, 20: {"Cyst", "late", "again"},
        25: {"Cyst", "late"},
    }  # fmt: skip
