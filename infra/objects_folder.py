"""The object store in a folder: temporary file, fsync, link or rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from medgr2.infra.object_keys import check_key
from medgr2.infra.objects import ObjectInfo
from medgr2.schemas.errors import NotFoundError, StorageError, after_a_full_disk

TEMPORARY = ".tmp"
"""Half-written files live here, on the same file system, and are never listed."""
_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None


class FolderStore:
    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        self.uri = str(self.root)
        try:
            with os.scandir(self.root):
                pass
        except FileNotFoundError:
            pass  # made by the first write
        except OSError as e:
            raise self._error(e) from None

    def local_path(self, key: str) -> Path:
        """Where the object lies: readers of a folder need no copy."""
        return self.root.joinpath(*check_key(key).split("/"))

    def get(self, key: str) -> bytes:
        path = self.local_path(key)
        try:
            return path.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFoundError(f"no object {key}", where=self.uri) from None
        except OSError as e:
            raise self._error(e) from None

    def put(self, key: str, data: bytes) -> None:
        self._place(key, lambda temporary: _write(temporary, data), replace=True)

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        folder = self.root / TEMPORARY
        temporary = {key: f"{folder}/{uuid.uuid4().hex}" for key in objects}
        try:
            _make_folder(folder)
            parents = {f"{self.uri}/{check_key(key).rpartition('/')[0]}" for key in objects}
            for parent in parents:
                os.makedirs(parent, exist_ok=True) if _SYNCFS else _make_folder(Path(parent))  # noqa: PTH103
            for key, path in temporary.items():
                _write_unsynced(path, objects[key])
            _sync_all(folder, temporary.values())
            for key, path in temporary.items():
                os.replace(path, f"{self.uri}/{key}")  # noqa: PTH105  many small files: Path costs more than the call
            _sync_all(folder, parents)
        except OSError as e:
            raise self._error(e) from None
        finally:
            for path in temporary.values():
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108

    def create(self, key: str, data: bytes) -> bool:
        return self._place(key, lambda temporary: _write(temporary, data), replace=False)

    def exists(self, key: str) -> bool:
        try:
            return os.path.isfile(f"{self.uri}/{check_key(key)}")  # noqa: PTH113  asked of every picture
        except OSError as e:
            raise self._error(e) from None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        start = self.root.joinpath(*[p for p in prefix.split("/")[:-1] if p not in ("", ".", "..")])
        for path in _walk(start, self.root):
            key = path.relative_to(self.root).as_posix()
            if not key.startswith(prefix):
                continue
            try:
                found = path.stat()
            except FileNotFoundError:  # deleted while we looked
                continue
            yield ObjectInfo(key, found.st_size, found.st_mtime)

    def delete(self, key: str) -> None:
        path = self.local_path(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as e:
            raise self._error(e) from None

    def get_file(self, key: str, path: Path) -> None:
        if not self.exists(key):
            raise NotFoundError(f"no object {key}", where=self.uri)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            shutil.copyfile(self.local_path(key), temporary)
            temporary.replace(path)
        except OSError as e:
            raise self._error(e) from None
        finally:
            _forget(temporary)

    def put_file(self, key: str, path: Path) -> None:
        self._place(key, lambda temporary: _copy(path, temporary), replace=True)

    def _place(self, key: str, fill: Callable[[Path], None], *, replace: bool) -> bool:
        target = self.local_path(key)
        temporary = self.root / TEMPORARY / uuid.uuid4().hex
        try:
            _make_folder(temporary.parent)
            _make_folder(target.parent)
            fill(temporary)
            if replace:
                temporary.replace(target)
            else:
                # link, not rename: it fails when the name is taken, and that failure is the compare-and-set.
                os.link(temporary, target)
            _sync_folder(target.parent)
        except FileExistsError:
            if target.exists() and not replace:
                return False
            raise StorageError(f"cannot write {key}: a part of its name is a file", where=self.uri) from None
        except OSError as e:
            raise self._error(e) from None
        finally:
            _forget(temporary)
        return True

    def _error(self, e: OSError) -> StorageError:
        return StorageError(
            f"cannot use the storage folder: {e.strerror or e}",
            where=str(e.filename or self.uri),
            kept="everything written before",
            next_command=after_a_full_disk(
                e, "set MEDGR2_STORAGE__ROOT to a folder you may read and write, then: medgr2 doctor"
            ),
        )


def stale_temporaries(root: Path, older_than: float) -> Iterator[Path]:
    """What killed writers left: our own temporary files, and the '<name>#<n>' that delta-rs writes first."""
    ours = root / TEMPORARY
    candidates = list(ours.iterdir()) if ours.is_dir() else []
    candidates += [p for p in (root / "lake").rglob("*#*") if p.name.rpartition("#")[2].isdigit()]
    for path in sorted(candidates):
        try:
            if path.is_file() and path.stat().st_mtime < older_than:
                yield path
        except FileNotFoundError:
            continue


def _walk(folder: Path, root: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    # A folder sorts as 'name/', so that the walk yields keys in the order of whole keys, as S3 does.
    entries.sort(key=lambda e: os.fsencode(e.name + "/" if e.is_dir() else e.name))
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir():
            if not (folder == root and entry.name == TEMPORARY):
                yield from _walk(path, root)
        else:
            yield path


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _make_folder(folder: Path) -> None:
    """mkdir -p whose every new entry survives a power cut."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        _sync_folder(one.parent)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def _write_unsynced(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]
    finally:
        os.close(handle)


def _sync_all(folder: Path, paths: Iterable[str]) -> None:
    """One flush of the file system where there is a call for it, instead of one a file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        if _SYNCFS is None:
            for path in paths:
                _sync_folder(Path(path))
        elif _SYNCFS(handle):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(handle)


def _copy(source: Path, path: Path) -> None:
    with source.open("rb") as f, path.open("xb") as g:
        shutil.copyfileobj(f, g, 1 << 20)
        g.flush()
        os.fsync(g.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
