from __future__ import annotations

import math

import numpy as np
import pytest

from medgr2.models.measures import Answer
from medgr2.models.promotion_gate import Rule, decide
from medgr2.schemas.errors import DataError

MODALITIES = ("CT", "MRI")


def answers(correct: list[bool], **kw: object) -> list[Answer]:
    return [
        Answer(
            item_id=f"i{n}",
            image_id=f"m{n // int(str(kw.get('each', 1)))}",
            modality=str(kw.get("modality", MODALITIES[n % 2])),
            question_type=str(kw.get("question_type", "Disease Diagnosis")),
            correct=c,
            parsed=True,
        )
        for n, c in enumerate(correct)
    ]


def rights(n: int, of: int, start: int = 0) -> list[bool]:
    return [(k - start) % of < n for k in range(of)]


def test_better_is_promoted_and_says_why() -> None:
    d = decide(answers(rights(180, 200)), answers(rights(160, 200)), blank=answers(rights(50, 200)))
    assert d.promote
    assert d.gain is not None
    assert (d.gain.wins, d.gain.losses) == (20, 0)
    assert d.gain.p_value < 0.001
    assert d.gain.clear
    assert d.gain.low < d.gain.value == 0.1 < d.gain.high


def test_a_worse_candidate_is_not_promoted() -> None:
    d = decide(answers(rights(140, 200)), answers(rights(160, 200)), blank=answers(rights(50, 200)))
    assert not d.promote
    assert d.reasons[0] == "not better: 0 items won, 20 lost"


def test_luck_is_not_promoted() -> None:
    d = decide(answers(rights(163, 200)), answers(rights(160, 200)), blank=answers(rights(50, 200)))
    assert not d.promote
    assert d.reasons == ("not clearly better: 3 items won, 0 lost, p = 0.25 > 0.05",)
    assert d.gain is not None
    assert d.gain.text() == "+0.015 [+0.000, +0.035]"
    assert not d.gain.clear


def test_a_later_look_has_to_be_surer() -> None:
    candidate, champion = answers(rights(170, 200)), answers(rights(160, 200))
    blank = answers(rights(50, 200))
    assert decide(candidate, champion, blank=blank).promote, "10 won, none lost: p = .002"
    d = decide(candidate, champion, blank=blank, level=0.001)
    assert d.reasons == ("not clearly better: 10 items won, 0 lost, p = 0.00195 > 0.001",)


def test_better_overall_but_worse_on_a_slice_is_not_promoted() -> None:
    def rows(ct: int, mri: int) -> list[Answer]:
        wide = [Answer(f"c{n}", f"c{n}", "CT", "q", n < ct, True) for n in range(300)]
        return wide + [Answer(f"m{n}", f"m{n}", "MRI", "q", n < mri, True) for n in range(40)]

    d = decide(rows(290, 20), rows(200, 36), blank=rows(50, 10))
    assert not d.promote
    assert d.reasons == ("worse on MRI: +0.400 lost over 40 items",)


def slices(wins: int, losses: int, n: int, others: int = 300) -> tuple[list[Answer], list[Answer]]:
    """A candidate that gains 90 of CT, and this of MRI."""

    def rows(ct: int, mri: list[bool]) -> list[Answer]:
        wide = [Answer(f"c{i}", f"c{i}", "CT", "q", i < ct, True) for i in range(others)]
        return wide + [Answer(f"m{i}", f"m{i}", "MRI", "q", right, True) for i, right in enumerate(mri)]

    rest = [True] * (n - wins - losses)
    return (
        rows(290, [True] * wins + [False] * losses + rest),
        rows(200, [False] * wins + [True] * losses + rest),
    )


def test_a_fall_that_can_not_be_ruled_out_stops_it_though_it_may_be_chance() -> None:
    candidate, champion = slices(3, 6, 40)
    d = decide(candidate, champion, blank=[])
    assert not d.promote
    (reason,) = d.reasons
    assert reason.startswith("not shown to hold on MRI: +0.075 lost over 40 items, and a fall of 0.1")
    assert reason.endswith("is not ruled out (limit 0.15)")
    assert decide(*slices(3, 5, 40), blank=[]).promote, "one lost less, and it is"
    assert [(one.name, one.n) for one in d.slices] == [("CT", 300), ("MRI", 40), ("q", 340)]


def test_with_many_items_a_small_fall_that_is_no_chance_stops_it() -> None:
    d = decide(*slices(0, 60, 1000), blank=[])
    assert d.reasons == ("worse on MRI: +0.060 lost over 1000 items",), "it is within the margin, and still a fall"


def test_of_too_few_items_nothing_is_told_and_that_is_said() -> None:
    d = decide(*slices(0, 19, 29), blank=[])
    assert d.promote
    assert d.reasons[1:] == ("too few to tell of MRI (29 items)",)


def test_an_exam_like_that_of_the_demo_can_still_promote() -> None:
    """300 items, eight modalities, five types; 27 won and 9 lost: six points better."""
    gains = np.zeros(300, dtype=int)
    gains[np.random.default_rng(3).permutation(300)[:36]] = [1] * 27 + [-1] * 9

    def rows(right: np.ndarray) -> list[Answer]:
        return [Answer(f"i{n}", f"i{n}", f"m{n % 8}", f"t{n % 5}", bool(ok), True) for n, ok in enumerate(right)]

    d = decide(rows(gains >= 0), rows(gains <= 0), blank=[], level=0.025)
    assert d.promote
    assert len(d.slices) == 13
    assert all(one.most is not None and one.most < 0.15 for one in d.slices)


def test_a_model_that_does_not_look_is_not_promoted_even_as_the_first() -> None:
    d = decide(answers(rights(160, 200)), None, blank=answers(rights(155, 200)))
    assert not d.promote
    assert d.reasons[0].startswith("blind")
    assert decide(answers(rights(160, 200)), None, blank=answers(rights(50, 200))).promote


def test_unequal_items_are_refused() -> None:
    with pytest.raises(DataError, match="same held-out items"):
        decide(answers([True] * 10), answers([True] * 11), blank=answers([False] * 10))


def test_questions_of_one_image_are_no_independent_witnesses() -> None:
    """Two equally good models that differ by whole images of ten questions."""
    rng = np.random.default_rng(6)
    promoted = 0
    for _ in range(200):
        mine, theirs = (np.repeat(rng.random(45) < 0.8, 10) ^ (rng.random(450) < 0.05) for _ in range(2))
        promoted += decide(
            answers([bool(c) for c in mine], each=10),
            answers([bool(c) for c in theirs], each=10),
            blank=answers([False] * 450, each=10),
            level=0.025,
            rule=Rule(slice_margin=1.0, slice_harm=1.0),
        ).promote
    assert promoted <= 200 * 0.0125 + 4 * math.sqrt(200 * 0.0125)


def test_false_promotions_are_rare() -> None:
    """Two equally good models with independent mistakes: at most alpha / 2 are promoted."""
    rng = np.random.default_rng(5)
    promoted = sum(
        decide(
            answers(list(rng.random(300) < 0.8)),
            answers(list(rng.random(300) < 0.8)),
            blank=answers([False] * 300),
            rule=Rule(),
        ).promote
        for _ in range(200)
    )
    assert promoted <= 200 * 0.025 + 4 * math.sqrt(200 * 0.025)
