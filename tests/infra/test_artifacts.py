from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medgr2.infra.artifacts import get_folder, put_folder
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import DataError, NotFoundError, UsageError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer" / "vocab.txt").write_text("a b")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_model_comes_back_whole_and_its_digest_is_its_content(
    storage: StorageSettings, model: Path, tmp_path: Path
) -> None:
    store = open_store(storage)
    digest = put_folder(store, model)
    assert contents(get_folder(store, digest, storage.cache_folder)) == contents(model)
    copy = tmp_path / "elsewhere"
    model.rename(copy)
    assert put_folder(store, copy) == digest
    (copy / "config.json").write_text('{"a": 1}')
    assert put_folder(store, copy) != digest


def test_a_model_without_its_manifest_does_not_exist(storage: StorageSettings, model: Path) -> None:
    store = open_store(storage)
    digest = put_folder(store, model)
    store.delete(f"models/{digest}/manifest.json")
    with pytest.raises(NotFoundError, match=digest):
        get_folder(store, digest, storage.cache_folder)
    put_folder(store, model)
    assert get_folder(store, digest, storage.cache_folder).is_dir()


@pytest.mark.parametrize("part", ["files/config.json", "files/model.safetensors", "manifest.json"])
def test_a_damaged_model_is_refused_and_leaves_no_half_copy(storage: StorageSettings, model: Path, part: str) -> None:
    store = open_store(storage)
    digest = put_folder(store, model)
    store.put(f"models/{digest}/{part}", b"{}\n")
    with pytest.raises(DataError, match="damaged"):
        get_folder(store, digest, storage.cache_folder)
    assert not list((storage.cache_folder / "models").glob("*"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "weights.pkl", "modeling.py", "no_suffix"])
def test_what_could_run_code_is_refused(folder_storage: StorageSettings, model: Path, name: str) -> None:
    (model / name).write_bytes(b"x")
    with pytest.raises(DataError, match=name):
        put_folder(open_store(folder_storage), model)
    assert list(open_store(folder_storage).list("models/")) == []


def test_links_that_lead_out_are_refused(folder_storage: StorageSettings, model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("secret")
    (model / "link.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(DataError, match=r"link\.json"):
        put_folder(open_store(folder_storage), model)


def test_no_such_folder_or_digest(folder_storage: StorageSettings, tmp_path: Path) -> None:
    store = open_store(folder_storage)
    with pytest.raises(UsageError):
        put_folder(store, tmp_path / "nothing")
    with pytest.raises(UsageError):
        get_folder(store, "../../etc", tmp_path)
    with pytest.raises(NotFoundError):
        get_folder(store, "0" * 64, tmp_path)


def test_many_fetch_at_once(s3_storage: StorageSettings, model: Path) -> None:
    digest = put_folder(open_store(s3_storage), model)
    start = threading.Barrier(6)

    def fetch(_: int) -> dict[str, bytes]:
        start.wait(timeout=120)
        return contents(get_folder(open_store(s3_storage), digest, s3_storage.cache_folder))

    with ThreadPoolExecutor(6) as pool:
        assert all(found == contents(model) for found in pool.map(fetch, range(6)))
    assert [p.name for p in (s3_storage.cache_folder / "models").iterdir()] == [digest]
