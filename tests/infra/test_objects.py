"""The contract of the object store, held to by a folder, by moto_server and by a real Ceph gateway."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import NotFoundError, UsageError


def test_what_was_put_is_got_and_replaced(storage: StorageSettings) -> None:
    store = open_store(storage)
    store.put("a/b.json", b"1")
    store.put("a/b.json", b"22")
    assert store.get("a/b.json") == b"22"
    assert store.exists("a/b.json")
    assert not store.exists("a")
    assert open_store(storage).get("a/b.json") == b"22"


def test_a_missing_object_is_said_to_be_missing(storage: StorageSettings, tmp_path: Path) -> None:
    store = open_store(storage)
    with pytest.raises(NotFoundError, match="nothing/here"):
        store.get("nothing/here")
    with pytest.raises(NotFoundError, match="nothing/here"):
        store.get_file("nothing/here", tmp_path / "file")
    assert list(tmp_path.glob("**/*file*")) == []
    store.delete("nothing/here")


def test_create_never_replaces(storage: StorageSettings) -> None:
    store = open_store(storage)
    assert store.create("claim", b"first")
    assert not store.create("claim", b"second")
    assert store.get("claim") == b"first"
    store.delete("claim")
    assert store.create("claim", b"third")


def test_of_many_creates_at_once_one_wins(storage: StorageSettings) -> None:
    store = open_store(storage)
    for round_ in range(5):
        with ThreadPoolExecutor(8) as pool:
            won = [
                n
                for n, mine in enumerate(pool.map(lambda n, r=round_: store.create(f"r/{r}", b"%d" % n), range(8)))
                if mine
            ]  # type: ignore[misc]
        assert len(won) == 1
        assert store.get(f"r/{round_}") == b"%d" % won[0]


def test_list_is_in_key_order_and_by_prefix(storage: StorageSettings) -> None:
    store = open_store(storage)
    keys = ["a/b/c", "a/b.json", "a-b", "a/b-", "b/x", "a/bb", "z"]
    for key in keys:
        store.put(key, key.encode())
    assert [o.key for o in store.list("")] == sorted(keys)
    assert [o.key for o in store.list("a/b")] == sorted(k for k in keys if k.startswith("a/b"))
    assert [o.key for o in store.list("a/")] == sorted(k for k in keys if k.startswith("a/"))
    assert [o.size for o in store.list("z")] == [1]
    assert list(store.list("nothing/")) == []


def test_a_prefix_of_the_root_is_no_part_of_it(storage: StorageSettings) -> None:
    open_store(storage).put("x", b"1")
    beside = storage.model_copy(update={"root": storage.root[:-1]})
    assert [o.key for o in open_store(beside).list("")] == []


def test_files_go_in_and_out_unchanged(storage: StorageSettings, tmp_path: Path) -> None:
    store, data = open_store(storage), bytes(range(256)) * 40_000  # 10 MB: more than one part on S3
    (tmp_path / "in").write_bytes(data)
    store.put_file("big/file", tmp_path / "in")
    (tmp_path / "out").write_bytes(b"old")
    store.get_file("big/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["in", "out"]


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../../b", "a/./b", "a\\b", "a\nb", ".tmp/x", "x" * 201])
def test_no_key_leads_out_of_the_root(folder_storage: StorageSettings, key: str) -> None:
    store = open_store(folder_storage)
    with pytest.raises(UsageError):
        store.put(key, b"")
    with pytest.raises(UsageError):
        store.get(key)
