"""Group commit: nothing finished waits longer than one write, and errors reach whoever waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medgr2.infra import journal_writer
from medgr2.infra.journal import FAN_IN, Journal
from medgr2.infra.journal_writer import JournalWriter
from medgr2.infra.objects_folder import FolderStore
from medgr2.schemas.cells import Outcome, Recipe
from medgr2.schemas.errors import StorageError

RECIPE = Recipe(stage="squares", code="1")
OUTCOMES = [Outcome.accepted(RECIPE.cell(inputs={"n": n}), {"n": n}) for n in range(3000)]


class GatedStore(FolderStore):
    """Its writes wait for the test."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def create(self, key: str, data: bytes) -> bool:
        self.begun.release()
        assert self.go.acquire(timeout=400)
        return super().create(key, data)


def test_what_finishes_during_a_write_is_the_next_group(tmp_path: Path) -> None:
    store = GatedStore(tmp_path)
    journal = Journal(store, "squares")
    writer = JournalWriter(journal)
    writer.add(OUTCOMES[0])
    assert store.begun.acquire(timeout=400)
    for outcome in OUTCOMES[1:11]:
        writer.add(outcome)
    store.go.release()
    assert store.begun.acquire(timeout=400)
    assert set(Journal(store, "squares").outcomes()) == {OUTCOMES[0].key}
    store.go.release()
    writer.flush()
    assert len(Journal(store, "squares").outcomes()) == 11
    assert len(list(store.list("journal/"))) == 2
    writer.close()


def test_close_makes_everything_durable_and_merges_small_groups(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with JournalWriter(Journal(store, "squares")) as writer:
        for i, outcome in enumerate(OUTCOMES):
            writer.add(outcome)
            if i % 20 == 0:
                writer.flush()
    assert len(Journal(store, "squares").outcomes()) == len(OUTCOMES)
    assert len(list(store.list("journal/"))) < 2 * FAN_IN


def test_a_full_disk_reaches_the_producer(tmp_path: Path) -> None:
    class FullStore(FolderStore):
        def create(self, key: str, data: bytes) -> bool:
            raise StorageError("no space left on device")

    writer = JournalWriter(Journal(FullStore(tmp_path), "squares"))
    writer.add(OUTCOMES[0])
    with pytest.raises(StorageError, match="no space"):
        writer.flush()
    with pytest.raises(StorageError, match="no space"):
        writer.add(OUTCOMES[1])
    with pytest.raises(StorageError, match="no space"):
        writer.close()


def test_a_group_is_gathered_until_somebody_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "GATHER_SECONDS", 3600)
    journal = Journal(FolderStore(tmp_path), "squares")
    with JournalWriter(journal) as writer:
        for outcome in OUTCOMES[:5]:
            writer.add(outcome)
        time.sleep(0.1)
        assert (writer.durable, len(journal.index())) == (0, 0)
        writer.hurry()
        _until(lambda: writer.durable == 5)
        assert len(journal.index()) == 5
        for outcome in OUTCOMES[5 : 5 + journal_writer.FULL]:
            writer.add(outcome)
        _until(lambda: writer.durable == 5 + journal_writer.FULL)
        writer.add(OUTCOMES[-1])
        writer.flush()
        assert writer.durable == len(journal.index()) == 6 + journal_writer.FULL
        writer.add(OUTCOMES[-2])
    assert len(journal.index()) == 7 + journal_writer.FULL


def test_whoever_asks_how_much_is_durable_hears_that_the_disk_is_full(tmp_path: Path) -> None:
    class FullStore(FolderStore):
        def create(self, key: str, data: bytes) -> bool:
            raise StorageError("no space left on device")

    writer = JournalWriter(Journal(FullStore(tmp_path), "squares"))
    writer.add(OUTCOMES[0])
    writer.hurry()

    def told() -> bool:
        try:
            return writer.durable > 0
        except StorageError:
            return True

    _until(told)
    with pytest.raises(StorageError, match="no space"):
        _ = writer.durable


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 400
    while not done():
        assert time.monotonic() < end
        time.sleep(0.002)
