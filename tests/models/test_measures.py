from __future__ import annotations

import pytest

from medgr2.models.measures import Answer, summarise

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
    assert (s.micro, s.macro, s.unparsed, s.n) == (0.9, 0.5, 0.1, 10)
    assert s.by_modality["MRI"].n == 1


def test_intervals_cover_and_are_seeded() -> None:
    rows = answers(rights(160, 200))
    s = summarise(rows)
    assert s == summarise(rows)
    assert s.micro_low < s.micro == 0.8 < s.micro_high
    # Binomial half width at n = 200, p = .8 is .055; pairs on one image only widen it a little.
    assert 0.04 < s.micro_high - s.micro < 0.1


def test_interval_counts_images_not_questions() -> None:
    """Twenty copies of each answer on its image are no more evidence than one."""
    once = [Answer(f"i{n}", f"m{n}", "CT", "q", n % 5 > 0, True) for n in range(40)]
    often = [Answer(f"i{n}.{k}", f"m{n}", "CT", "q", n % 5 > 0, True) for n in range(40) for k in range(20)]
    assert summarise(often).micro_low == pytest.approx(summarise(once).micro_low, abs=1e-9)
