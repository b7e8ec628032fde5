"""Which items people see, and what they may say about them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from medgr2.infra.lake import Lake
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import DataError
from medgr2.tasks.review import Imported, audits, import_verdicts, sample_for_review, settled


def scored(n: int, p: float | None, lp: float | None = -1.0, tau: float = 0.8) -> dict[str, Any]:
    return {"item_id": f"{n:064x}", "p_valid": p, "lp": lp, "tau": tau}


CALIBRATED = [scored(n, n / 200) for n in range(200)]


def test_half_near_tau_a_quarter_from_the_top_a_quarter_at_random() -> None:
    chosen = sample_for_review(CALIBRATED, 20, seed=1)
    assert len(set(chosen)) == 20
    p = {row["item_id"]: row["p_valid"] for row in CALIBRATED}
    assert all(abs(p[i] - 0.8) <= 0.03 for i in chosen[:10])
    assert sorted(p[i] for i in chosen[10:15]) == [n / 200 for n in range(195, 200)]
    assert all(p[i] >= 0.8 for i in chosen[15:])
    assert chosen != sample_for_review(CALIBRATED, 20, seed=2)
    assert chosen == sample_for_review(CALIBRATED[::-1], 20, seed=1)


def test_before_a_calibration_the_whole_range_is_seen() -> None:
    rows = [scored(n, None, lp=-n / 10) for n in range(100)] + [scored(500, None, lp=None)]
    chosen = sample_for_review(rows, 10, seed=1)
    lps = sorted(next(r["lp"] for r in rows if r["item_id"] == i) for i in chosen)
    assert len(set(chosen)) == 10
    assert lps[0] < -9
    assert lps[-1] > -1
    assert all(0.5 < b - a < 1.5 for a, b in pairwise(lps))


def test_few_items_are_all_asked_about_and_reviewed_ones_never_again() -> None:
    assert len(sample_for_review(CALIBRATED, 1000, seed=1)) == 200
    done = set(sample_for_review(CALIBRATED, 50, seed=1))
    assert not done & set(sample_for_review(CALIBRATED, 50, seed=1, reviewed=done))
    assert len(sample_for_review([scored(n, 0.1) for n in range(30)], 20, seed=1)) == 20  # nothing accepted yet
    assert sample_for_review([], 5, seed=1) == []


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(StorageSettings(root=str(tmp_path)))
    lake.append_new("items", [{"item_id": f"{n:064x}"} for n in range(5)], key="item_id")
    return lake


def said(n: int, valid: bool, reviewer: str = "ann") -> dict[str, Any]:
    return {"item_id": f"{n:064x}", "reviewer": reviewer, "valid": valid}


def test_verdicts_come_in_once(lake: Lake) -> None:
    assert import_verdicts(lake, [said(0, True), said(1, False), said(0, True)]) == Imported(added=2, known=0)
    assert import_verdicts(lake, [said(0, True), said(2, True), said(0, False, "bob")]) == Imported(added=2, known=1)
    assert lake.read("reviews").num_rows == 4
    assert import_verdicts(lake, []) == Imported(0, 0)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([said(1, True), said(77, True), said(78, True)], "2 of the items are not in the lake"),
        ([said(1, True), said(1, False)], "row 3: 'ann' says both"),
        ([said(0, False)], "'ann' said otherwise"),
        ([{**said(1, True), "valid": "yes"}], "row 2: valid"),
        ([{**said(1, True), "item_id": "1"}], "row 2: item_id"),
        ([{**said(1, True), "score": 1}], "row 2: score"),
        ([{"item_id": "0" * 64, "valid": True}], "row 2: reviewer"),
    ],
)
def test_one_bad_row_and_none_comes_in(lake: Lake, rows: list[dict[str, Any]], problem: str) -> None:
    import_verdicts(lake, [said(0, True)])
    with pytest.raises(DataError, match=problem):
        import_verdicts(lake, [said(3, True), *rows])
    assert lake.read("reviews").num_rows == 1


def test_the_majority_settles_and_a_tie_does_not() -> None:
    rows = [
        said(0, True),
        said(0, True, "bob"),
        said(0, False, "eve"),
        said(1, True),
        said(1, False, "bob"),
        said(2, False),
    ]
    assert settled(rows) == {f"{0:064x}": True, f"{2:064x}": False}
    (audit,) = audits(rows, {f"{2:064x}": {"lp": -1.0, "agree": 0.5}, f"{1:064x}": {"lp": 0.0, "agree": 0.0}})
    assert (audit.item_id, audit.valid) == (f"{2:064x}", False)
