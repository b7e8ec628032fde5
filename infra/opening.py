"""Opens the object store that the settings name, and proves that it can be trusted with a compare-and-set."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from medgr2.infra.objects import ObjectStore
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import StorageError

RACERS = 8


def open_store(storage: StorageSettings) -> ObjectStore:
    if not storage.is_s3:
        return FolderStore(storage.root)
    from medgr2.infra.objects_s3 import S3Store

    return S3Store(storage)


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
