"""Stored checkpoints: the latest and the best, whole or passed over, gone when the training is done."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from medgr2.infra.checkpoint_vault import PREFIX, CheckpointVault
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import DataError


@pytest.fixture
def store(storage: StorageSettings) -> Any:
    """In a folder and in a bucket."""
    return open_store(storage)


def checkpoint(folder: Path, step: int) -> Path:
    made = folder / f"checkpoint-{step}"
    (made / "inner").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes([step]) * 1000)
    (made / "optimizer.pt").write_bytes(bytes([step + 1]) * 500)
    (made / "inner" / "config.json").write_text("{}")
    return made


def steps(vault: CheckpointVault) -> list[int]:
    return [one.step for one in vault.kept()]


def test_the_latest_and_the_best_are_kept_and_nothing_at_the_end(store: Any, tmp_path: Path) -> None:
    vault = CheckpointVault(store, "cell", best=2)
    other = CheckpointVault(store, "cell2")
    other.put(checkpoint(tmp_path / "other", 1), 1, 0.0)
    for step, merit in ((1, 0.9), (2, -5.0), (3, 0.5), (4, math.nan), (5, 0.1), (6, -9.0)):
        vault.put(checkpoint(tmp_path, step), step, merit)
    assert steps(vault) == [6, 3, 1]
    assert len(list(store.list(f"{PREFIX}/cell/"))) == 3 * 4, "what was dropped left nothing"
    vault.forget()
    assert list(store.list(f"{PREFIX}/cell/")) == []
    assert steps(other) == [1]


def test_what_is_fetched_is_what_was_put(store: Any, tmp_path: Path) -> None:
    vault = CheckpointVault(store, "cell")
    made = checkpoint(tmp_path, 3)
    vault.put(made, 3, 1.0)
    vault.put(made, 3, 1.0)
    (one,) = vault.kept()
    vault.fetch(one, tmp_path / "fetched")
    for path in made.rglob("*"):
        if path.is_file():
            assert (tmp_path / "fetched" / path.relative_to(made)).read_bytes() == path.read_bytes()


def test_without_its_receipt_it_does_not_count_and_is_cleared_by_a_later_one(store: Any, tmp_path: Path) -> None:
    vault = CheckpointVault(store, "cell")
    for step in (1, 2):
        vault.put(checkpoint(tmp_path, step), step, 0.0)
    store.delete(f"{PREFIX}/cell/{2:010d}/receipt.json")
    assert steps(vault) == [1]
    vault.put(checkpoint(tmp_path, 3), 3, 0.0)
    assert steps(vault) == [3, 1]
    assert list(store.list(f"{PREFIX}/cell/{2:010d}/")) == []
    store.put(f"{PREFIX}/cell/{3:010d}/receipt.json", b"[1]")
    assert steps(vault) == [1]


@pytest.mark.parametrize("harm", ["other bytes", "missing"])
def test_a_damaged_one_is_not_given_out(store: Any, tmp_path: Path, harm: str) -> None:
    vault = CheckpointVault(store, "cell")
    vault.put(checkpoint(tmp_path, 1), 1, 0.0)
    key = f"{PREFIX}/cell/{1:010d}/files/optimizer.pt"
    store.put(key, b"x" * 500) if harm == "other bytes" else store.delete(key)
    with pytest.raises(DataError, match=r"step 1 is damaged: optimizer\.pt"):
        vault.fetch(vault.kept()[0], tmp_path / "fetched")


def test_pickles_and_programs_are_not_stored(store: Any, tmp_path: Path) -> None:
    vault = CheckpointVault(store, "cell")
    made = checkpoint(tmp_path, 1)
    (made / "training_args.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"training_args\.bin"):
        vault.put(made, 1, 0.0)
    assert list(store.list(f"{PREFIX}/")) == []
