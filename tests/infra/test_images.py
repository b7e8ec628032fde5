from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from medgr2.infra.images import ImageStore, image_key
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, NotFoundError, UsageError


def images(storage: StorageSettings) -> ImageStore:
    return ImageStore(open_store(storage), storage.cache_folder)


def test_bytes_are_found_again_by_their_hash(storage: StorageSettings) -> None:
    sha = images(storage).put(b"picture")
    assert sha == sha256_hex(b"picture") == images(storage).put(b"picture")
    assert images(storage).path(sha).read_bytes() == b"picture"
    assert [o.key for o in open_store(storage).list("images/")] == [f"images/sha256/{sha[:2]}/{sha}"]


def test_a_folder_makes_no_second_copy(folder_storage: StorageSettings) -> None:
    sha = images(folder_storage).put(b"picture")
    assert str(images(folder_storage).path(sha)) == f"{folder_storage.root}/{image_key(sha)}"


def test_a_missing_image_is_named(storage: StorageSettings) -> None:
    with pytest.raises(NotFoundError, match="0" * 64):
        images(storage).path("0" * 64)
    with pytest.raises(UsageError):
        images(storage).path("../../etc/passwd")


def test_a_damaged_image_is_refused(storage: StorageSettings) -> None:
    sha = images(storage).put(b"picture")
    open_store(storage).put(image_key(sha), b"pictur")
    with pytest.raises(DataError, match="damaged"):
        images(storage).path(sha)


def test_a_damaged_copy_is_fetched_again(s3_storage: StorageSettings) -> None:
    sha = images(s3_storage).put(b"picture")
    images(s3_storage).path(sha).write_bytes(b"rot")
    assert images(s3_storage).path(sha).read_bytes() == b"picture"


def test_many_readers_at_once_get_whole_images(s3_storage: StorageSettings) -> None:
    data = bytes(range(256)) * 4000
    sha = images(s3_storage).put(data)
    start = threading.Barrier(8)

    def read(_: int) -> bool:
        start.wait(timeout=120)
        return images(s3_storage).path(sha).read_bytes() == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
