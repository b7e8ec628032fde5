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


def test_a_small_slice_can_not_veto() -> None:
    def rows(ct: int, mri: int) -> list[Answer]:
        wide = [Answer(f"c{n}", f"c{n}", "CT", "q", n < ct, True) for n in range(300)]
        return wide + [Answer(f"m{n}", f"m{n}", "MRI", "q", n < mri, True) for n in range(29)]

    assert decide(rows(290, 10), rows(200, 29), blank=rows(50, 1)).promote


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
            rule=Rule(slice_margin=1.0),
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
