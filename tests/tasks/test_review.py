"""What people may say about items, and what it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medgr2.infra.lake import Lake
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import DataError
from medgr2.tasks.review import Imported, audited_precision, audits, import_verdicts, settled
from medgr2.tasks.review_sample import Stratum


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(StorageSettings(root=str(tmp_path)))
    lake.append_new("items", [{"item_id": f"{n:064x}"} for n in range(5)], key="item_id")
    return lake


def said(n: int, valid: bool, reviewer: str = "ann", **more: object) -> dict[str, Any]:
    return {"item_id": f"{n:064x}", "reviewer": reviewer, "valid": valid, **more}


def test_verdicts_come_in_once(lake: Lake) -> None:
    assert import_verdicts(lake, [said(0, True), said(1, False), said(0, True)]) == Imported(added=2, known=0)
    assert import_verdicts(lake, [said(0, True), said(2, True), said(0, False, "bob")]) == Imported(added=2, known=1)
    assert lake.read("reviews").num_rows == 4
    assert import_verdicts(lake, []) == Imported(0, 0)


def test_reviewers_are_kept_as_given_and_strata_with_them(lake: Lake) -> None:
    import_verdicts(lake, [said(0, True, "Dr. Ä/007", stratum=Stratum.RANDOM, weight=2.5), said(1, True)], run="r")
    rows = {row["item_id"]: row for row in lake.read("reviews").to_pylist()}
    drawn, plain = rows[f"{0:064x}"], rows[f"{1:064x}"]
    assert (drawn["reviewer"], drawn["stratum"], drawn["weight"], drawn["run"]) == ("Dr. Ä/007", "random", 2.5, "r")
    assert (plain["stratum"], plain["weight"]) == (None, None)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (
            [said(1, True), said(77, True), said(78, True)],
            r"2 of 4 .*\n  line 3: item 0{12} is not in the lake\n  line 4",
        ),
        ([said(1, True), said(1, False)], "line 3: this reviewer says the opposite of the same item in line 2"),
        ([said(0, False)], "line 2: this reviewer said the opposite of the item on 20"),
        ([{**said(1, True), "valid": "yes"}], "line 2: valid"),
        ([{**said(1, True), "item_id": "1"}], "line 2: item_id"),
        ([{**said(1, True), "score": 1}], "line 2: score"),
        ([{"item_id": "0" * 64, "valid": True}], "line 2: reviewer"),
        ([said(1, True, stratum=Stratum.RANDOM, weight=0.5)], "line 2: weight"),
        ([said(1, True, weight=float("nan"))], "line 2: weight"),
        ([said(0, False), said(66, True), said(1, True, "")], r"line 2: .*\n  line 3: .*\n  line 4: "),
    ],
)
def test_one_bad_row_and_none_comes_in(lake: Lake, rows: list[dict[str, Any]], problem: str) -> None:
    import_verdicts(lake, [said(0, True)])
    with pytest.raises(DataError, match=problem) as refused:
        import_verdicts(lake, [said(3, True), *rows])
    assert lake.read("reviews").num_rows == 1
    assert refused.value.kept
    assert refused.value.next_command
    assert " ann" not in str(refused.value), "a line is enough to find the row"


def test_problems_that_the_sheet_has_are_told_with_the_others(lake: Lake) -> None:
    with pytest.raises(DataError, match=r"3 of 4 .*\n  line 4: bad\n  line 7: item .*\n  line 9: bad") as refused:
        import_verdicts(
            lake, [said(0, True), said(9, True)], lines=[3, 7], problems={9: "bad", 4: "bad"}, where="a.csv"
        )
    assert refused.value.where == "a.csv"
    assert lake.read("reviews").num_rows == 0


def test_a_wrong_file_does_not_fill_the_screen(lake: Lake) -> None:
    with pytest.raises(DataError, match="1000 of 1000") as refused:
        import_verdicts(lake, [said(100 + n, True) for n in range(1000)])
    assert str(refused.value).count("\n") < 210
    assert "and 800 more" in str(refused.value)


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


def review(
    n: int, valid: bool, reviewer: str = "ann", stratum: str | None = "random", weight: float | None = 10.0
) -> Any:
    return {**said(n, valid, reviewer), "review_id": f"{n}{reviewer}", "stratum": stratum, "weight": weight}


def test_precision_is_of_settled_random_items_only() -> None:
    drawn = [review(n, n < 9) for n in range(10)]
    others = [review(n, False, stratum=s, weight=None) for n, s in ((20, "near-tau"), (21, "top"), (22, None))]
    tied = [review(30, True), review(30, False, "bob")]
    found = audited_precision(drawn + others + tied)
    assert found is not None
    assert (found.valid, found.audited) == (9, 10)
    outvoted = [review(0, False, name, stratum=None, weight=None) for name in ("bob", "eve")]
    found = audited_precision(drawn + outvoted)
    assert found is not None
    assert (found.valid, found.audited) == (8, 10)
    assert audited_precision(others + tied) is None
    assert audited_precision([]) is None
