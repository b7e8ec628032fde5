from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from racers import opened, race

from medgr2.infra.lake import Amendment, Lake
from medgr2.infra.lake_rows import to_arrow
from medgr2.infra.lake_tables import STATISTICS
from medgr2.infra.settings import StorageSettings
from medgr2.schemas import tables
from medgr2.schemas.errors import ConflictError, DataError, StorageError, UsageError


def ids(lake: Lake, table: str = "items", column: str = "item_id") -> list[str]:
    return sorted(lake.read(table, [column])[column].to_pylist())


def test_rows_come_back_with_declared_columns_and_types(storage: StorageSettings) -> None:
    lake = Lake(storage)
    when = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert lake.append("items", [{"item_id": "a", "options": ["x", "y"], "added_at": when}], once="1")
    found = lake.read("items")
    assert found.schema == tables.ITEMS.schema
    row = found.to_pylist()[0]
    assert row["options"] == ["x", "y"]
    assert row["added_at"] == when
    assert row["added_at"].utcoffset() == timedelta(0)
    assert row["question"] is None


def test_reading_writes_nothing(folder_storage: StorageSettings) -> None:
    lake = Lake(folder_storage)
    assert lake.read("items", ["item_id", "options"]).schema.names == ["item_id", "options"]
    assert lake.files("items") == []
    assert not Path(folder_storage.root).exists()


def test_the_same_name_appends_once(storage: StorageSettings) -> None:
    lake = Lake(storage)
    assert lake.append("items", [{"item_id": "a"}], once="night-1")
    assert not lake.append("items", [{"item_id": "a"}], once="night-1")
    assert not Lake(storage).append("items", [{"item_id": "b"}], once="night-1")
    assert lake.append("items", [{"item_id": "a"}], once="night-2")
    assert ids(lake) == ["a", "a"]


def test_a_name_is_remembered_after_checkpoint_and_compaction(folder_storage: StorageSettings) -> None:
    lake = Lake(folder_storage)
    for i in range(12):
        lake.append("items", [{"item_id": str(i)}], once=str(i))
    delta = opened(lake, "items")
    delta.optimize.compact()
    delta.create_checkpoint()
    for commit in Path(folder_storage.root, "lake", "items", "_delta_log").glob("*[0-9].json"):
        commit.unlink()  # only the checkpoint is left, as after the log's retention
    assert not lake.append("items", [{"item_id": "again"}], once="3")
    assert len(ids(lake)) == 12


def test_processes_racing_under_one_name_append_once(storage: StorageSettings) -> None:
    said = race(storage, *[["append", "night", "50"]] * 3)
    assert sorted(s.strip() for s in said) == ["False", "False", "True"]
    assert len(ids(Lake(storage))) == 50


def test_racing_writers_of_new_rows_write_each_key_once(storage: StorageSettings) -> None:
    said = race(storage, *[["append-new", str(seed), "60"] for seed in range(4)])
    assert sum(int(s) for s in said) == 60
    assert ids(Lake(storage)) == [f"item-{i:03d}" for i in range(60)]


def test_append_new_keeps_what_is_there_and_the_first_of_equals(storage: StorageSettings) -> None:
    lake = Lake(storage)
    assert lake.append_new("items", [{"item_id": "a", "run": "1"}], key="item_id") == 1
    new = [{"item_id": "a", "run": "2"}, {"item_id": "b", "run": "2"}, {"item_id": "b", "run": "3"}]
    assert lake.append_new("items", new, key="item_id") == 1
    assert lake.append_new("items", new, key="item_id") == 0
    assert sorted(zip(*lake.read("items", ["item_id", "run"]).to_pydict().values(), strict=True)) == [
        ("a", "1"),
        ("b", "2"),
    ]
    with pytest.raises(DataError, match="item_id"):
        lake.append_new("items", [{"run": "x"}], key="item_id")


def test_columns_and_rows_are_chosen(storage: StorageSettings) -> None:
    lake = Lake(storage)
    lake.append("items", [{"item_id": i, "origin": o} for i, o in [("a", "x"), ("b", "y"), ("c", "x")]], once="1")
    assert ids(lake) == ["a", "b", "c"]
    assert lake.read("items", ["item_id"], {"origin": "y"}).to_pylist() == [{"item_id": "b"}]
    assert lake.read("items", ["item_id"], {"origin": ["x"], "item_id": {"a", "b"}}).to_pylist() == [{"item_id": "a"}]
    assert lake.read("items", ["item_id"], pc.field("origin") != "x").to_pylist() == [{"item_id": "b"}]
    assert lake.read("items", ["item_id"], {"origin": []}).to_pylist() == []
    with pytest.raises(UsageError, match="nope"):
        lake.read("items", ["nope"])
    with pytest.raises(UsageError, match="nope"):
        lake.read("items", where={"nope": 1})
    with pytest.raises(UsageError, match="no table nope"):
        lake.read("nope")


def test_a_column_added_later_is_null_in_older_rows(storage: StorageSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(storage)
    lake.append("items", [{"item_id": "old"}], once="1")
    stale = opened(lake, "items")
    before = tables.ITEMS
    longer = before.schema.append(pa.field("laterality", pa.string())).append(pa.field("tags", pa.list_(pa.string())))
    after = dataclasses.replace(before, schema=longer, statistics=(*before.statistics, "laterality"))
    monkeypatch.setitem(tables.TABLES, "items", after)
    assert lake.read("items", ["item_id", "laterality", "tags"]).to_pylist() == [
        {"item_id": "old", "laterality": None, "tags": None}
    ]
    assert lake.append("items", [{"item_id": "new", "laterality": "left", "tags": ["t"]}], once="2")
    assert lake.read("items", ["item_id"], {"laterality": "left"}).to_pylist() == [{"item_id": "new"}]
    assert opened(lake, "items").metadata().configuration[STATISTICS].endswith("laterality")
    # A process of the older release that is still running can read, and append.
    monkeypatch.setitem(tables.TABLES, "items", before)
    assert ids(lake) == ["new", "old"]
    assert lake.append("items", [{"item_id": "older"}], once="3")
    with pytest.raises(Exception, match="Metadata changed"):
        lake.commit(stale, to_arrow("items", [{"item_id": "x"}]))
    monkeypatch.setitem(tables.TABLES, "items", after)
    assert lake.read("items", ["item_id"], {"laterality": "left"}).to_pylist() == [{"item_id": "new"}]
    assert ids(lake) == ["new", "old", "older"]


def test_no_free_text_reaches_the_transaction_log(folder_storage: StorageSettings) -> None:
    lake = Lake(folder_storage)
    lake.append("images", [{"image_id": "i", "report": "SECRET-REPORT", "patient_key": "SECRET-KEY"}], once="1")
    lake.append("items", [{"item_id": "i", "question": "SECRET-Q", "rationale": "SECRET-R"}], once="1")
    for name in ("images", "items"):
        opened(lake, name).create_checkpoint()
    logs = list(Path(folder_storage.root).rglob("_delta_log/*"))
    assert any(p.suffix == ".parquet" for p in logs)
    assert not [p for p in logs if b"SECRET" in p.read_bytes()]


def test_deleting_rows_rewrites_files_and_leaves_no_deletion_vector(folder_storage: StorageSettings) -> None:
    lake = Lake(folder_storage)
    lake.append("items", [{"item_id": i} for i in "abc"], once="1")
    opened(lake, "items").delete("item_id = 'b'")
    assert ids(lake) == ["a", "c"]
    import pyarrow.parquet as pq

    assert sorted(i for f in lake.files("items") for i in pq.read_table(f)["item_id"].to_pylist()) == ["a", "c"]
    assert opened(lake, "items").protocol().reader_features in (None, [])


def test_unknown_columns_and_wrong_types_are_refused_without_quoting_values(folder_storage: StorageSettings) -> None:
    lake = Lake(folder_storage)
    with pytest.raises(DataError, match="no column colour"):
        lake.append("items", [{"item_id": "a"}, {"colour": "red"}], once="1")
    with pytest.raises(DataError, match="column width takes int64") as e:
        lake.append("images", [{"width": "Jane Doe"}], once="1")
    assert "Jane" not in str(e.value)
    with pytest.raises(DataError, match="no column colour"):
        lake.append("items", pa.table({"colour": ["red"]}), once="1")
    with pytest.raises(UsageError, match="once"):
        lake.append("items", [{"item_id": "a"}], once="")
    assert not lake.append("items", [], once="1")
    assert ids(lake) == []


def test_arrow_tables_of_other_string_types_are_cast(folder_storage: StorageSettings) -> None:
    rows = pa.table({"item_id": pa.array(["a"], pa.large_string()), "question": pa.array(["q"], pa.string_view())})
    assert to_arrow("items", rows).schema == tables.ITEMS.schema
    assert Lake(folder_storage).append("items", rows, once="1")


def test_a_conflict_that_does_not_end_is_given_up_in_time(
    folder_storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltalake.exceptions import CommitFailedError

    tries, pauses = [], [0.0]
    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr("medgr2.infra.lake.time", clock)

    def always_late() -> None:
        tries.append(1)
        raise CommitFailedError("somebody else")

    with pytest.raises(ConflictError, match="could not publish"):
        Lake(folder_storage).retry("publish", always_late, deadline_seconds=5)
    assert 5 < sum(pauses) < 6
    assert len(tries) == len(pauses) > 10


def test_a_lake_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(StorageError) as e:
        Lake(StorageSettings(root=str(tmp_path / "root"))).append("items", [{"item_id": "a"}], once="1")
    assert str(tmp_path / "root") in str(e.value)


def test_now_is_stored_to_the_microsecond(folder_storage: StorageSettings) -> None:
    now, lake = datetime.now(UTC), Lake(folder_storage)
    lake.append("items", [{"item_id": "a", "added_at": now}], once="1")
    assert lake.read("items", ["added_at"]).to_pylist() == [{"added_at": now}]


def test_amending_replaces_rows_by_key_and_adds_the_others(storage: StorageSettings) -> None:
    lake = Lake(storage)
    lake.append_new(
        "images", [{"image_id": "a", "split": "train"}, {"image_id": "b", "split": "train"}], key="image_id"
    )

    def make(held: pa.Table) -> Amendment:
        assert held.num_rows == 2
        return Amendment(True, [[{"image_id": "b", "split": "heldout"}], [{"image_id": "c", "split": "train"}]])

    lake.amend("images", make, key="image_id")
    rows = {row["image_id"]: row["split"] for row in lake.read("images").to_pylist()}
    assert rows == {"a": "train", "b": "heldout", "c": "train"}
    assert lake.read("images", where={"split": "heldout"})["image_id"].to_pylist() == ["b"]


def test_amending_starts_again_from_what_others_committed_meanwhile(storage: StorageSettings) -> None:
    lake = Lake(storage)
    lake.append_new("images", [{"image_id": "a", "split": "train"}], key="image_id")
    other, seen = Lake(lake.storage), []

    def make(held: pa.Table) -> Amendment:
        seen.append(held.num_rows)
        if len(seen) == 1:
            other.append_new("images", [{"image_id": "b", "split": "heldout"}], key="image_id")
        return Amendment(True, [[{"image_id": "a", "split": str(held.num_rows)}]])

    lake.amend("images", make, key="image_id")
    assert seen == [1, 2]
    assert {row["image_id"]: row["split"] for row in lake.read("images").to_pylist()} == {"a": "2", "b": "heldout"}


def test_an_amendment_of_new_rows_only_is_written_part_by_part(storage: StorageSettings) -> None:
    lake = Lake(storage)
    parts = [[{"image_id": f"{n}-{k}", "split": "train"} for k in range(3)] for n in range(4)]
    lake.amend("images", lambda held: Amendment(False, iter([[], *parts])), key="image_id", columns=["image_id"])
    assert lake.read("images").num_rows == 12
    lake.amend("images", lambda held: Amendment(False, iter([[]])), key="image_id")
    assert lake.version("images") == 1
