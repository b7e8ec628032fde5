"""Staging of a publish: the change as a file and a receipt, from before its first row to after its commit.

The receipt is what dates an unfinished publish, so that a clean-up can tell a slow one from a dead one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from medgr2.infra.objects import ObjectStore
from medgr2.schemas.digest import sha256_hex

STAGING = "staging/publish/"


def stage(store: ObjectStore, publish_id: str, rows: pa.Table, *, dataset: str, run: str) -> None:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    part = buffer.getvalue()
    store.put(f"{STAGING}{publish_id}.parquet", part)
    receipt = {
        "dataset": dataset,
        "run": run,
        "rows": rows.num_rows,
        "sha256": sha256_hex(part),
        "staged_at": datetime.now(UTC).isoformat(),
    }
    store.put(f"{STAGING}{publish_id}.json", json.dumps(receipt).encode())


def unstage(store: ObjectStore, publish_id: str) -> None:
    """The receipt goes last: while anything is left, it can be dated."""
    store.delete(f"{STAGING}{publish_id}.parquet")
    store.delete(f"{STAGING}{publish_id}.json")


def staged(store: ObjectStore) -> Iterator[tuple[str, float]]:
    """Each staged publish_id and when it was last touched, in seconds since the epoch."""
    newest: dict[str, float] = {}
    for found in store.list(STAGING):
        publish_id = found.key.removeprefix(STAGING).partition(".")[0]
        newest[publish_id] = max(newest.get(publish_id, 0.0), found.modified)
    yield from sorted(newest.items())
