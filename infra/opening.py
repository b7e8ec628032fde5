"""Opens the object store that the settings name, and proves that it can be trusted with a compare-and-set."""

from __future__ import annotations

import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medgr2.infra.objects import ObjectStore
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import StorageError

RACERS = 8


def open_store(storage: StorageSettings) -> ObjectStore:
    check_root(storage)
    if not storage.is_s3:
        return FolderStore(storage.root)
    from medgr2.infra.objects_s3 import S3Store

    return S3Store(storage)


def check_root(storage: StorageSettings) -> None:
    """A folder that is a file, or below one, or closed to us: said here once, before anything else stumbles over it."""
    if storage.is_s3:
        return
    root = Path(storage.root)
    there = next(path for path in (root, *root.parents) if os.path.exists(path))  # noqa: PTH110  Path.exists raises
    if not there.is_dir():
        raise StorageError(
            f"{there} is a file, so nothing can be stored under {root}",
            where=storage.root,
            next_command="set MEDGR2_STORAGE__ROOT to a folder, or to s3://bucket/prefix",
        )
    if not os.access(there, os.R_OK | os.X_OK if there == root else os.X_OK):
        raise StorageError(
            f"{there} may not be read",
            where=storage.root,
            next_command="change its permissions, or MEDGR2_STORAGE__ROOT",
        )


def prove_create_only(store: ObjectStore) -> None:
    """Some S3 servers accept `If-None-Match: *` and ignore it: two nights would then share a version number."""
    name = f"probe/{uuid.uuid4().hex}"
    once, race = f"{name}-once", f"{name}-race"
    start = threading.Barrier(RACERS)

    def run(n: int) -> bool:
        start.wait(timeout=60)
        return store.create(race, b"%d" % n)

    try:
        honoured = store.create(once, b"first") and not store.create(once, b"second") and store.get(once) == b"first"
        if honoured:
            with ThreadPoolExecutor(RACERS) as pool:
                won = [n for n, mine in enumerate(pool.map(run, range(RACERS))) if mine]
            honoured = len(won) == 1 and store.get(race) == b"%d" % won[0]
    finally:
        store.delete(once)
        store.delete(race)
    if not honoured:
        raise StorageError(
            "the store does not honour a create-only write (PUT with If-None-Match: *)",
            where=store.uri,
            kept="nothing was published",
            next_command="use a store that does (AWS S3, Ceph RGW, MinIO, or a folder) and set MEDGR2_STORAGE__ROOT",
        )
