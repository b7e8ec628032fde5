from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from racers import opened, race

from medgr2.infra.lake import Lake
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.infra.versions import Difference, diff, members, publish, resolve, tag, tags, versions
from medgr2.schemas.digest import digest_of_ids
from medgr2.schemas.errors import DataError, NotFoundError, UsageError
from medgr2.schemas.reports import DatasetVersion


def lake_with_items(storage: StorageSettings, ids: str | list[str] = "abcdef") -> Lake:
    lake = Lake(storage)
    lake.append("items", [{"item_id": i, "image_id": f"image-{i}"} for i in ids], once="items")
    return lake


def change(lake: Lake, add: str = "", remove: str = "", run: str = "r") -> DatasetVersion:
    return publish(lake, dataset="ds", add=add, remove=remove, card={"note": run}, run=run)


def test_versions_add_and_remove_and_stay_as_they_were(storage: StorageSettings) -> None:
    lake = lake_with_items(storage)
    one, two, three = change(lake, "ab"), change(lake, "cd", "a"), change(lake, "a", "d")
    assert [v.version for v in (one, two, three)] == [1, 2, 3]
    assert [members(lake, v) for v in (one, two, three)] == [["a", "b"], ["b", "c", "d"], ["a", "b", "c"]]
    assert (two.items, two.added, two.removed, two.parent, two.card) == (3, 2, 1, 1, {"note": "r"})
    assert two.digest == digest_of_ids("bcd")
    assert versions(Lake(storage)) == [one, two, three]
    assert diff(lake, one, three) == Difference(added=("c",), removed=())
    assert diff(lake, two, one) == Difference(added=("a",), removed=("c", "d"))
    assert list(open_store(storage).list("staging/")) == []


def test_the_same_change_of_the_same_run_is_the_same_version(storage: StorageSettings) -> None:
    lake = lake_with_items(storage)
    first = change(lake, "ab")
    assert change(lake, "ba") == first
    change(lake, "c")
    assert change(lake, "ab") == first
    assert len(versions(lake)) == 2


def test_a_change_that_was_taken_back_is_made_again(storage: StorageSettings) -> None:
    lake = lake_with_items(storage)
    first = change(lake, "ab")
    refused = change(lake, "b", "a")
    again = change(lake, "ab")
    assert [v.version for v in (first, refused, again)] == [1, 2, 3]
    assert members(lake, again) == ["a", "b"]
    assert (again.added, again.removed, again.parent) == (1, 0, 2)
    change(lake, "c")
    assert change(lake, "ab") == again
    assert change(lake, "b", "a").version == 5
    assert change(lake, "ab").version == 6
    assert [len(members(lake, v)) for v in versions(lake)] == [2, 1, 2, 3, 2, 3]
    assert list(open_store(storage).list("staging/")) == []


def test_a_version_is_no_older_than_what_it_holds_nor_than_its_parent(folder_storage: StorageSettings) -> None:
    lake = lake_with_items(folder_storage)
    before = datetime.now(UTC)
    ahead = before + timedelta(minutes=5)
    publish(lake, dataset="ds", add="a", card={}, run="r", not_before=ahead)
    publish(lake, dataset="ds", add="b", card={}, run="r", not_before=datetime.now(UTC) - timedelta(days=1))
    publish(lake, dataset="other", add="c", card={}, run="r", not_before=datetime.now(UTC) - timedelta(days=1))
    rows = lake.read("versions").to_pylist()
    times = {(row["dataset"], row["version"]): row["published_at"] for row in rows}
    assert times["ds", 1] == times["ds", 2] == ahead
    assert before <= times["other", 1] <= datetime.now(UTC)


def test_a_change_that_alters_nothing_writes_nothing(storage: StorageSettings) -> None:
    lake = lake_with_items(storage)
    first = change(lake, "ab")
    rows = lake.read("membership").num_rows
    assert change(lake, "a", "f", run="another night") == first
    assert change(lake, "", "", run="a third") == first
    assert lake.read("membership").num_rows == rows


def test_what_may_not_be_published(storage: StorageSettings) -> None:
    lake = lake_with_items(storage)
    with pytest.raises(DataError, match=r"2 of 3 items .* first: x"):
        change(lake, "axy")
    with pytest.raises(DataError, match="nothing to publish"):
        change(lake)
    with pytest.raises(UsageError, match="both added and removed"):
        change(lake, "ab", "b")
    with pytest.raises(UsageError, match="not a name"):
        publish(lake, dataset="../ds", add="a", card={}, run="r")
    assert versions(lake) == []
    assert lake.read("membership").num_rows == 0


@pytest.mark.parametrize(("kind", "subject"), [("item", "b"), ("image", "image-b")])
def test_what_was_erased_is_refused(folder_storage: StorageSettings, kind: str, subject: str) -> None:
    lake = lake_with_items(folder_storage)
    lake.append("erasures", [{"erasure_id": "1", "kind": kind, "subject": subject}], once="e")
    with pytest.raises(DataError, match=r"1 of the items to publish were erased .* first: b"):
        change(lake, "abc")
    assert change(lake, "ac").version == 1


def test_an_erasure_while_a_publish_runs_is_seen_before_the_commit(
    folder_storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, append = lake_with_items(folder_storage), Lake.append

    def append_then_erase(self: Lake, table: str, rows: object, *, once: str) -> bool:
        done = append(self, table, rows, once=once)  # type: ignore[arg-type]
        if table == "membership":
            append(self, "erasures", [{"erasure_id": "1", "kind": "item", "subject": "b"}], once="e")
        return done

    monkeypatch.setattr(Lake, "append", append_then_erase)
    with pytest.raises(DataError, match="erased"):
        change(lake, "ab")
    assert versions(lake) == []


def test_references_are_resolved(storage: StorageSettings) -> None:
    lake = lake_with_items(storage)
    one, two = change(lake, "a"), change(lake, "b")
    assert resolve(lake, "ds") == resolve(lake, "ds@latest") == resolve(lake, "ds@2") == two
    tag(lake, "ds", 2, "good")
    tag(lake, "ds", 1, "good")
    tag(lake, "ds", 1, "good")
    assert resolve(lake, "ds@tag:good") == one
    assert tags(lake, "ds") == {"good": 1}
    assert lake.read("tags").num_rows == 2
    for ref in ("ds@3", "ds@0", "ds@x", "ds@tag:bad"):
        with pytest.raises(NotFoundError, match=r"@1 to @2, @latest, tag:good"):
            _show(lake, ref)
    with pytest.raises(NotFoundError, match="datasets: ds"):
        _show(lake, "other@1")
    with pytest.raises(NotFoundError):
        tag(lake, "ds", 9, "good")
    with pytest.raises(UsageError):
        tag(lake, "ds", 1, "a b")


def _show(lake: Lake, ref: str) -> None:
    try:
        resolve(lake, ref)
    except NotFoundError as e:
        raise NotFoundError(str(e)) from None


def test_members_that_do_not_match_their_digest_are_refused(folder_storage: StorageSettings) -> None:
    lake = lake_with_items(folder_storage)
    one = change(lake, "abc")
    opened(lake, "membership").delete("item_id = 'b'")
    with pytest.raises(DataError, match=r"ds@1 was published with 3 items, and 2 that differ"):
        members(lake, one)


def test_datasets_do_not_mix(folder_storage: StorageSettings) -> None:
    lake = lake_with_items(folder_storage)
    change(lake, "ab")
    other = publish(lake, dataset="other", add="c", card={}, run="r")
    assert other.version == 1
    assert members(lake, other) == ["c"]
    assert [v.ref for v in versions(lake)] == ["ds@1", "other@1"]


def test_four_processes_publish_25_times_each_and_lose_nothing(storage: StorageSettings) -> None:
    lake = lake_with_items(storage, [f"{who}-{i}" for who in range(4) for i in range(25)])
    said = race(storage, *[["publish", str(who), "25"] for who in range(4)])
    numbers = [int(line) for out in said for line in out.split()]
    assert sorted(numbers) == list(range(1, 101))
    history = versions(lake)
    assert [v.version for v in history] == list(range(1, 101))
    assert [v.items for v in history] == list(range(1, 101))
    assert all(v.parent == (v.version - 1 or None) for v in history)
    held: set[str] = set()
    added: dict[str, list[str]] = {}
    for row in lake.read("membership").to_pylist():
        added.setdefault(row["publish_id"], []).append(row["item_id"])
    for version in history:
        held.update(added[version.publish_id])
        assert version.digest == digest_of_ids(held)
    assert len(members(lake, history[-1])) == 100
    assert list(open_store(storage).list("staging/")) == []
