from __future__ import annotations

import json
import time

from medgr2.infra.lake_rows import to_arrow
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.infra.staging import stage, staged, unstage
from medgr2.schemas.digest import sha256_hex


def test_a_staged_change_is_dated_and_receipted_until_it_is_unstaged(storage: StorageSettings) -> None:
    store, rows = open_store(storage), to_arrow("membership", [{"publish_id": "p", "item_id": "a", "change": "added"}])
    stage(store, "p", rows, dataset="ds", run="r")
    [(publish_id, touched)] = staged(store)
    assert publish_id == "p"
    assert abs(touched - time.time()) < 300
    receipt = json.loads(store.get("staging/publish/p.json"))
    assert (receipt["dataset"], receipt["run"], receipt["rows"]) == ("ds", "r", 1)
    assert receipt["sha256"] == sha256_hex(store.get("staging/publish/p.parquet"))
    unstage(store, "p")
    unstage(store, "p")
    assert list(staged(store)) == []
