"""A word that is put into a text betrays itself neither by its article nor by its capitals."""

from __future__ import annotations

import pytest

from medgr2.models.wording import article, in_case_of, put, tidied


@pytest.mark.parametrize(
    ("said", "before", "fits"),
    [
        ("a", "acute bleed", "an"), ("An", "mass", "A"), ("a", "MRI", "an"), ("an", "CT", "a"), ("a", "X-ray", "an"),
        ("", "acute bleed", ""), (None, "mass", ""), ("a", "no mass", ""),
    ],
)  # fmt: skip
def test_the_article_fits_what_follows(said: str | None, before: str, fits: str) -> None:
    assert article(said, before) == fits


def test_what_is_put_in_takes_the_article_along() -> None:
    assert put("There is a mild bleed.", 11, 15, "acute") == "There is an acute bleed."
    assert put("An old bleed", 3, 6, "new") == "A new bleed"
    assert put("no old bleed", 3, 7, "") == "no bleed"


@pytest.mark.parametrize(
    ("said", "other", "like"),
    [("Left", "right", "Right"), ("left", "right", "right"), ("CT", "mri", "MRI"), ("CT", "radiograph", "radiograph")],
)
def test_capitals_follow(said: str, other: str, like: str) -> None:
    assert in_case_of(said, other) == like


def test_a_sentence_stays_one() -> None:
    assert tidied("No bleed", " bleed") == "Bleed"
    assert tidied("no bleed", " bleed ") == "bleed"
