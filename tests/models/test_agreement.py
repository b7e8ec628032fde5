"""Cohen's kappa between reviewers, and where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from medgr2.models.agreement import agreements, kappa


def said(reviewer: str, verdicts: str) -> list[dict[str, Any]]:
    """One letter an item: + valid, - not, a blank for not judged."""
    return [{"item_id": str(n), "reviewer": reviewer, "valid": v == "+"} for n, v in enumerate(verdicts) if v != " "]


def test_kappa_is_what_the_textbook_computes() -> None:
    both = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert kappa(both) == pytest.approx(0.4)  # observed .7, by chance .5
    assert kappa([(a, not b) for a, b in both]) == pytest.approx(-0.4)


def test_each_pair_over_the_items_that_both_judged() -> None:
    rows = said("bob", "++++++----++  ") + said("ann", "++++++----  --") + said("eve", "            ++")
    first, second = agreements(rows)
    assert (first.reviewers, first.shared, first.same, first.kappa) == (("ann", "bob"), 10, 10, 1.0)
    assert (second.reviewers, second.shared, second.same, second.kappa) == (("ann", "eve"), 2, 0, None)
    assert "fewer than 10" in second.line()
    assert agreements(rows[::-1]) == (first, second)


def test_one_class_by_both_is_no_agreement_beyond_chance() -> None:
    (pair,) = agreements(said("ann", "+" * 12) + said("bob", "+" * 12))
    assert pair.kappa is None
    assert "one and the same of every item" in pair.line()
    (pair,) = agreements(said("ann", "+" * 12) + said("bob", "+" * 6 + "-" * 6))
    assert pair.kappa == 0.0


def test_nobody_shares_an_item() -> None:
    assert agreements(said("ann", "++  ") + said("bob", "  --")) == ()
    assert agreements([]) == ()
