from __future__ import annotations

import pytest

from medgr2.models.measures import Answer, summarise
from medgr2.schemas.errors import DataError

MODALITIES = ("CT", "MRI")


def answers(correct: list[bool], **kw: object) -> list[Answer]:
    return [
        Answer(
            item_id=f"i{n}",
            image_id=f"m{n // 2}",
            modality=str(kw.get("modality", MODALITIES[n % 2])),
            question_type=str(kw.get("question_type", "Disease Diagnosis")),
            correct=c,
            parsed=True,
        )
        for n, c in enumerate(correct)
    ]


def rights(n: int, of: int, start: int = 0) -> list[bool]:
    return [(k - start) % of < n for k in range(of)]


def test_macro_is_over_modalities_and_unreadable_counts_as_wrong() -> None:
    rows = [Answer(f"i{n}", f"m{n}", "CT", "Modality Recognition", True, True) for n in range(9)]
    rows.append(Answer("i9", "m9", "MRI", "Modality Recognition", False, False))
    s = summarise(rows)
    assert (s.micro.value, s.macro.value, s.unparsed, s.n) == (0.9, 0.5, 0.1, 10)
    assert s.by_modality["MRI"].n == 1


def test_intervals_cover_and_are_seeded() -> None:
    rows = answers(rights(160, 200))
    s = summarise(rows)
    assert s == summarise(rows)
    assert s.micro.low < s.micro.value == 0.8 < s.micro.high
    # Binomial half width at n = 200, p = .8 is .055; pairs on one image only widen it a little.
    assert 0.04 < s.micro.high - s.micro.value < 0.1


def test_interval_counts_images_not_questions() -> None:
    """Twenty copies of each answer on its image are no more evidence than one."""
    once = [Answer(f"i{n}", f"m{n}", "CT", "q", n % 5 > 0, True) for n in range(40)]
    often = [Answer(f"i{n}.{k}", f"m{n}", "CT", "q", n % 5 > 0, True) for n in range(40) for k in range(20)]
    assert summarise(often).micro.low == pytest.approx(summarise(once).micro.low, abs=1e-9)


def drawn(rights_of: list[int], samples: int = 4) -> list[Answer]:
    return [
        Answer(f"i{n}", f"m{n}", MODALITIES[n % 2], "q", k > samples / 2, True, tuple(j < k for j in range(samples)))
        for n, k in enumerate(rights_of)
    ]


def test_sampled_answers_stand_beside_the_greedy_ones() -> None:
    s = summarise(drawn([4, 3, 0, 1] * 25))
    assert s.micro.value == 0.5
    assert s.sampled is not None
    assert (s.sampled.samples, s.sampled.micro.value, s.sampled.macro.value) == (4, 0.5, 0.5)
    assert s.sampled.micro.low < 0.5 < s.sampled.micro.high
    # CT was drawn as 4 and 0, MRI as 3 and 1: the macro is over the modalities.
    s = summarise(drawn([4, 0, 4, 0, 4, 4]))
    assert s.sampled is not None
    assert s.sampled.macro.value == pytest.approx((1 + 1 / 3) / 2)
    assert summarise(answers([True, False])).sampled is None


def test_as_many_samples_of_every_item() -> None:
    with pytest.raises(DataError, match="some items have 2 sampled answers and some 4"):
        summarise([*drawn([1]), *drawn([1], samples=2)])
