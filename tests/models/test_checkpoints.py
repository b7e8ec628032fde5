"""Checkpoints of a machine that was lost: what is damaged in the store is passed over once, and then mended."""

from __future__ import annotations

from pathlib import Path

from medgr2.infra.checkpoint_vault import PREFIX, CheckpointVault
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.models.checkpoints import fetch_newer


def test_a_damaged_one_is_stored_again_when_the_training_comes_to_it(tmp_path: Path) -> None:
    store = open_store(StorageSettings(root=str(tmp_path / "store")))
    vault, local, made = CheckpointVault(store, "cell"), tmp_path / "local", tmp_path / "made"
    local.mkdir()
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights")
    vault.put(made, 1, 0.0)
    store.put(f"{PREFIX}/cell/{1:010d}/files/model.safetensors", b"other")
    fetch_newer(local, vault)
    assert list(local.iterdir()) == []
    vault.put(made, 1, 0.0)
    fetch_newer(local, vault)
    assert (local / "checkpoint-1" / "model.safetensors").read_bytes() == b"weights"
