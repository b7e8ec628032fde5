from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from medgr2.infra.lake import Lake
from medgr2.infra.lake_files import SMALL_BYTES
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.tables import TABLES


def with_a_large_file(storage: StorageSettings) -> Lake:
    lake = Lake(storage)
    large = [{"item_id": f"large-{i}", "question": os.urandom(32).hex(), "origin": "human"} for i in range(3000)]
    lake.append("items", large, once="large")
    lake.append("items", [{"item_id": f"small-{i}", "origin": "generated"} for i in range(3)], once="small")
    return lake


def test_large_and_small_files_are_read_as_one_table(storage: StorageSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = with_a_large_file(storage)
    if not storage.is_s3:
        sizes = sorted(Path(f).stat().st_size for f in lake.files("items"))
        assert sizes[0] < SMALL_BYTES < sizes[1]
    longer = TABLES["items"].schema.append(pa.field("laterality", pa.string()))
    monkeypatch.setitem(TABLES, "items", dataclasses.replace(TABLES["items"], schema=longer))
    for _ in range(2):
        assert lake.read("items").num_rows == 3003
        assert lake.read("items").schema == longer
        assert lake.read("items", ["laterality", "item_id"]).column_names == ["laterality", "item_id"]
        some = {"item_id": ["large-7", "small-1", "nothing"]}
        assert sorted(lake.read("items", ["item_id"], some)["item_id"].to_pylist()) == ["large-7", "small-1"]
        assert lake.read("items", ["item_id"], {"origin": "generated"}).num_rows == 3


def test_what_is_kept_in_memory_never_outlives_its_file(folder_storage: StorageSettings) -> None:
    lake, other = with_a_large_file(folder_storage), Lake(folder_storage)
    assert lake.read("items").num_rows == 3003
    with other.state("items", write=True) as delta:
        delta.delete("item_id = 'small-1' OR item_id = 'large-1'")
    assert lake.read("items").num_rows == 3001
    other.append("items", [{"item_id": "new"}], once="new")
    assert lake.read("items", ["item_id"], {"item_id": ["new", "small-1"]})["item_id"].to_pylist() == ["new"]


def test_a_lake_travels_to_another_process_as_its_address(folder_storage: StorageSettings) -> None:
    lake = with_a_large_file(folder_storage)
    assert pickle.loads(pickle.dumps(lake)).read("items").num_rows == 3003
