from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from medgr2.infra.objects_folder import FolderStore, stale_temporaries
from medgr2.schemas.errors import StorageError


def test_opening_and_reading_make_no_folder(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "root")
    assert list(store.list("")) == []
    assert not store.exists("a")
    assert not (tmp_path / "root").exists()


def test_a_root_that_is_a_file_is_refused_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(StorageError) as e:
        FolderStore(tmp_path / "root")
    assert "MEDGR2_STORAGE__ROOT" in str(e.value)
    with pytest.raises(StorageError):
        FolderStore(tmp_path / "root" / "below").put("a", b"")


def test_a_root_without_permission_is_refused_without_traceback() -> None:
    """As nobody: a superuser is refused nothing."""
    if os.getuid() != 0:
        pytest.skip("needs to become another user")
    script = (
        "import os, sys\n"
        "from medgr2.infra.objects_folder import FolderStore\n"
        "from medgr2.schemas.errors import StorageError\n"
        "closed, unwritable = sys.argv[1:]\n"
        "os.setuid(65534)\n"
        "for action in (lambda: FolderStore(closed), lambda: FolderStore(unwritable).put('a', b'')):\n"
        "    try:\n"
        "        action()\n"
        "    except StorageError as e:\n"
        "        print(e.what)\n"
    )
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        closed, unwritable = Path(open_to_all, "closed"), Path(open_to_all, "unwritable")
        closed.mkdir(mode=0o700)
        unwritable.mkdir(mode=0o755)
        done = subprocess.run(
            [sys.executable, "-c", script, str(closed), str(unwritable)], capture_output=True, text=True, timeout=400
        )
    assert done.stdout.count("Permission denied") == 2, done.stderr


def test_an_object_and_a_folder_cannot_share_a_name(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a/b", b"1")
    with pytest.raises(StorageError):
        store.put("a/b/c", b"2")
    with pytest.raises(StorageError):
        store.put("a", b"2")
    with pytest.raises(StorageError):
        store.create("a/b/c", b"2")
    assert store.get("a/b") == b"1"


def test_a_failed_write_leaves_the_old_object_and_no_temporary(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a", b"old")
    with pytest.raises(StorageError):
        store.put_file("a", tmp_path / "no such file")
    assert store.get("a") == b"old"
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_only_old_temporaries_are_stale(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a", b"1")
    (tmp_path / "lake" / "items").mkdir(parents=True)
    old = [tmp_path / ".tmp" / "dead", tmp_path / "lake" / "items" / "part-1.parquet#1"]
    for path in [*old, tmp_path / ".tmp" / "alive"]:
        path.write_bytes(b"x")
    for path in old:
        os.utime(path, (1, 1))
    assert sorted(stale_temporaries(tmp_path, 1000.0)) == sorted(old)
    assert [o.key for o in store.list("")] == ["a", "lake/items/part-1.parquet#1"]
