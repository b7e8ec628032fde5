"""Who thinks better of a verdict says so in a new row: the newest word counts, and nothing that was said is deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from medgr2.infra.lake import Amendment, Lake
from medgr2.infra.query import query
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import DataError
from medgr2.schemas.tables import TABLES
from medgr2.tasks.review import Imported, audited_precision, import_verdicts, settled, standing_verdicts
from medgr2.tasks.review_sample import Stratum
from medgr2.tasks.vigil import precision_of


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(StorageSettings(root=str(tmp_path)))
    lake.append_new("items", [{"item_id": f"{n:064x}"} for n in range(5)], key="item_id")
    return lake


def said(n: int, valid: bool, reviewer: str = "ann", **more: object) -> dict[str, Any]:
    return {"item_id": f"{n:064x}", "reviewer": reviewer, "valid": valid, **more}


def now(lake: Lake) -> dict[tuple[int, str], bool]:
    return {(int(row["item_id"], 16), row["reviewer"]): row["valid"] for row in standing_verdicts(lake)}


def test_a_correction_holds_and_what_it_corrects_is_kept(lake: Lake) -> None:
    import_verdicts(lake, [said(0, True, reason="fine"), said(1, True)])
    rows = [said(0, False, reason="the other lung"), said(1, True), said(2, False)]
    assert import_verdicts(lake, rows, corrects=True) == Imported(added=2, known=1, corrections=1)
    assert now(lake) == {(0, "ann"): False, (1, "ann"): True, (2, "ann"): False}
    stored = lake.read("reviews").to_pylist()
    first = next(row for row in stored if row["reason"] == "fine")
    assert [row["corrects"] for row in stored if row["reason"] == "the other lung"] == [first["review_id"]]
    assert len({row["review_id"] for row in stored}) == 4
    assert settled(standing_verdicts(lake)) == {f"{n:064x}": n == 1 for n in range(3)}


def test_the_same_correction_again_is_known(lake: Lake) -> None:
    import_verdicts(lake, [said(0, True)])
    import_verdicts(lake, [said(0, False)], corrects=True)
    for corrects in (True, False):
        assert import_verdicts(lake, [said(0, False)], corrects=corrects) == Imported(added=0, known=1)
    assert lake.read("reviews").num_rows == 2
    with pytest.raises(DataError, match="said the opposite"):
        import_verdicts(lake, [said(0, True)])  # the sheet of before


def test_a_correction_is_corrected(lake: Lake) -> None:
    import_verdicts(lake, [said(0, True)])
    for times, valid in enumerate((False, True, False), start=1):
        assert import_verdicts(lake, [said(0, valid)], corrects=True).corrections == 1
        assert now(lake) == {(0, "ann"): valid}
        assert lake.read("reviews").num_rows == times + 1
    chain = {row["corrects"]: row["review_id"] for row in lake.read("reviews").to_pylist()}
    at, seen = None, 0
    while at in chain:
        at, seen = chain[at], seen + 1
    assert seen == 4


def test_the_word_of_another_reviewer_is_nobodys_to_correct(lake: Lake) -> None:
    import_verdicts(lake, [said(0, True)])
    assert import_verdicts(lake, [said(0, False, "bob")], corrects=True) == Imported(added=1, known=0)
    assert now(lake) == {(0, "ann"): True, (0, "bob"): False}
    assert settled(standing_verdicts(lake)) == {}
    import_verdicts(lake, [said(0, False)], corrects=True)
    assert settled(standing_verdicts(lake)) == {f"{0:064x}": False}


def test_unasked_it_is_refused_and_the_way_is_told(lake: Lake) -> None:
    import_verdicts(lake, [said(0, True)])
    with pytest.raises(DataError, match="said the opposite of the item on 20") as refused:
        import_verdicts(lake, [said(0, False), said(1, True)])
    assert "--corrects" in refused.value.next_command
    with pytest.raises(DataError, match="not in the lake") as other:
        import_verdicts(lake, [said(77, False)])
    assert "--corrects" not in other.value.next_command
    assert lake.read("reviews").num_rows == 1


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ([said(77, True)], "line 2: item 0{12} is not in the lake"),
        ([{"item_id": "0" * 64, "valid": True}], "line 2: reviewer"),
        ([said(0, True)], "line 2: this reviewer says the opposite of the same item in line 1"),
    ],
)
def test_corrections_come_in_all_or_none(lake: Lake, bad: list[dict[str, Any]], problem: str) -> None:
    import_verdicts(lake, [said(0, True)])
    with pytest.raises(DataError, match=problem):
        import_verdicts(lake, [said(0, False), *bad], corrects=True)
    assert now(lake) == {(0, "ann"): True}


def test_it_stands_for_the_draw_of_what_it_corrects(lake: Lake) -> None:
    drawn = [said(n, True, stratum=Stratum.RANDOM, weight=4.0) for n in range(4)]
    import_verdicts(lake, drawn, run="nightly/one")
    import_verdicts(lake, [said(0, False)], run="second look", corrects=True)
    (row,) = [row for row in standing_verdicts(lake) if not row["valid"]]
    assert (row["run"], row["stratum"], row["weight"]) == ("nightly/one", "random", 4.0)
    found = audited_precision(standing_verdicts(lake))
    assert found is not None
    assert (found.valid, found.audited) == (3, 4)
    of_night = precision_of(lake, "nightly/one")
    assert of_night is not None
    assert (of_night.audited, of_night.value) == (4, 0.75)
    assert len(standing_verdicts(lake, "nightly/one")) == 4
    assert standing_verdicts(lake, "second look") == []


def test_people_who_query_see_the_same_verdicts(lake: Lake) -> None:
    sql = "select review_id from verdicts"
    assert query(lake.storage, sql).num_rows == 0
    import_verdicts(lake, [said(0, True), said(1, True)])
    assert query(lake.storage, sql).num_rows == 2
    import_verdicts(lake, [said(0, False)], corrects=True)
    import_verdicts(lake, [said(0, True)], corrects=True)
    assert {row["review_id"] for row in query(lake.storage, sql).to_pylist()} == {
        row["review_id"] for row in standing_verdicts(lake)
    }


def test_reviews_of_an_older_release_can_be_corrected(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLES["reviews"]
    assert table.schema.names[-1] == "corrects"
    older = type(table)(table.name, table.schema.remove(len(table.schema) - 1), table.statistics, table.about)
    with monkeypatch.context() as before:
        before.setitem(TABLES, "reviews", older)
        row = said(0, True) | {"review_id": "of before", "run": "old"}
        lake.append_new("reviews", [row], key="review_id")
    again = Lake(lake.storage)
    assert now(again) == {(0, "ann"): True}
    import_verdicts(again, [said(0, False)], corrects=True)
    assert now(again) == {(0, "ann"): False}
    assert {row["corrects"] for row in again.read("reviews").to_pylist()} == {None, "of before"}


@pytest.mark.parametrize("corrects", [False, True])
def test_what_another_import_said_meanwhile_is_seen(
    lake: Lake, corrects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, amend = Lake(lake.storage), lake.amend
    said_meanwhile: list[Imported] = []

    def late(table: str, make: Callable[[pa.Table], Amendment], *, key: str) -> None:
        def after_another(stored: pa.Table) -> Amendment:
            if not said_meanwhile:
                said_meanwhile.append(import_verdicts(other, [said(0, True)]))
            return make(stored)

        amend(table, after_another, key=key)

    monkeypatch.setattr(lake, "amend", late)
    if corrects:
        assert import_verdicts(lake, [said(0, False)], corrects=True) == Imported(added=1, known=0, corrections=1)
        assert now(lake) == {(0, "ann"): False}
    else:
        with pytest.raises(DataError, match="said the opposite"):
            import_verdicts(lake, [said(0, False)])
        assert now(lake) == {(0, "ann"): True}
