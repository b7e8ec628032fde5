from __future__ import annotations

import threading

import pytest

from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.opening import RACERS, open_store, prove_create_only
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import StorageError


def test_every_store_we_support_passes_the_proof_and_is_left_clean(storage: StorageSettings) -> None:
    store = open_store(storage)
    prove_create_only(store)
    assert list(store.list("")) == []


class RacyStore(FolderStore):
    """Checks, then writes: honours create-only as long as nobody else is there."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._looked = threading.Barrier(RACERS)

    def create(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        if key.endswith("-race"):
            self._looked.wait(400)
        self.put(key, data)
        return True


def test_a_store_that_checks_before_it_writes_is_found_out(folder_storage: StorageSettings) -> None:
    with pytest.raises(StorageError, match="create-only"):
        prove_create_only(RacyStore(folder_storage.root))
