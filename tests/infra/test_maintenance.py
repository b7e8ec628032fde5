from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from racers import opened

from medgr2.infra import versions as versions_module
from medgr2.infra.lake import Lake
from medgr2.infra.lake_rows import to_arrow
from medgr2.infra.maintenance import ABANDONED_SECONDS, compact, give_up
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.infra.staging import stage
from medgr2.infra.versions import claim, members, publish, resolve, versions

DEAD = "d" * 64


def nights(storage: StorageSettings) -> Lake:
    lake = Lake(storage)
    for i in "abcdef":
        lake.append("items", [{"item_id": i, "image_id": f"image-{i}"}], once=i)
        publish(lake, dataset="ds", add=i, card={}, run=i)
    return lake


def dead_publish(lake: Lake) -> None:
    rows = to_arrow("membership", [{"publish_id": DEAD, "dataset": "ds", "item_id": "a", "change": "removed"}])
    stage(open_store(lake.storage), DEAD, rows, dataset="ds", run="dead")
    lake.append("membership", rows, once=claim(DEAD))


def everything(storage: StorageSettings) -> dict[str, int]:
    return {o.key: o.size for o in open_store(storage).list("")}


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(storage: StorageSettings) -> None:
    lake = nights(storage)
    dead_publish(lake)
    before = everything(storage)
    report = compact(lake, open_store(storage), dry_run=True, grace_seconds=-60)
    assert everything(storage) == before
    assert report.dry_run
    assert report.abandoned_publishes == (DEAD,)
    assert {t.table: t.compacted for t in report.tables} == {"items": 6, "membership": 7, "versions": 6}


def test_compaction_keeps_every_row_and_every_version(storage: StorageSettings) -> None:
    lake = nights(storage)
    dead_publish(lake)
    history, store = versions(lake), open_store(storage)
    store.put("journal/segment", b"not ours")
    report = compact(lake, store, dry_run=False, grace_seconds=-60, retention_hours=0)
    assert report.abandoned_publishes == (DEAD,)
    for reader in (lake, Lake(storage)):
        assert versions(reader) == history
        assert members(reader, history[-1]) == list("abcdef")
        assert [len(reader.files(t)) for t in ("items", "membership", "versions")] == [1, 1, 1]
        assert reader.read("membership", where={"publish_id": DEAD}).num_rows == 0
    assert not lake.append("items", [{"item_id": "a"}], once="a")
    keys = list(everything(storage))
    assert "journal/segment" in keys
    assert not [k for k in keys if k.startswith("staging/")]
    assert len([k for k in keys if k.startswith("lake/items/part-")]) == 1
    again = compact(lake, store, dry_run=False, grace_seconds=-60, retention_hours=0)
    assert again.abandoned_publishes == ()
    assert {t.compacted + t.vacuumed for t in again.tables} == {0}


def test_what_is_young_is_left_alone(folder_storage: StorageSettings) -> None:
    lake = nights(folder_storage)
    dead_publish(lake)
    root = Path(folder_storage.root)
    young, old = (root / f"lake/items/part-00000-{n * 8}-c000.snappy.parquet" for n in "12")
    half, temporary = root / "lake/items/part-1.parquet#1", root / ".tmp/dead"
    for path in (young, old, half, temporary):
        path.write_bytes(b"x")
    for path in (old, half, temporary):
        os.utime(path, (1, 1))
    report = compact(lake, open_store(folder_storage), dry_run=False)
    assert report.abandoned_publishes == ()
    assert lake.read("membership", where={"publish_id": DEAD}).num_rows == 1
    assert young.exists()
    assert not old.exists()
    assert sorted(report.stale_files) == sorted([str(half), str(temporary)])
    assert not half.exists()
    assert not temporary.exists()


def test_a_slow_publish_that_was_given_up_starts_over_and_loses_nothing(
    storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = nights(storage)
    refuse, calls = versions_module._refuse_erased, []

    def clean_up_in_between(*args: object) -> None:
        calls.append(1)
        if len(calls) == 2:  # staged, rows appended, about to commit
            report = compact(Lake(storage), open_store(storage), dry_run=False, grace_seconds=-60)
            assert len(report.abandoned_publishes) == 1
        refuse(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(versions_module, "_refuse_erased", clean_up_in_between)
    seven = publish(lake, dataset="ds", add="a", remove="b", card={}, run="slow")
    assert seven.version == 7
    assert members(Lake(storage), seven) == list("acdef")
    assert [v.version for v in versions(lake)] == list(range(1, 8))
    assert publish(lake, dataset="ds", add="a", remove="b", card={}, run="slow") == seven


def test_what_was_published_cannot_be_given_up(folder_storage: StorageSettings) -> None:
    lake = nights(folder_storage)
    assert not give_up(lake, resolve(lake, "ds").publish_id)
    assert opened(lake, "versions").version() == 6


def test_checkpoints_of_a_training_that_nobody_goes_on_with_are_cleared(tmp_path: Path) -> None:
    storage = StorageSettings(root=str(tmp_path))
    store, lake = FolderStore(tmp_path), Lake(storage)
    old, new = "checkpoints/a/0000000001/receipt.json", "checkpoints/b/0000000001/receipt.json"
    for key in (old, new):
        store.put(key, b"{}")
    ago = time.time() - ABANDONED_SECONDS - 60
    os.utime(tmp_path / old, (ago, ago))
    assert compact(lake, store, dry_run=True).stale_files == (old,)
    assert store.exists(old)
    compact(lake, store, dry_run=False)
    assert not store.exists(old)
    assert store.exists(new)
