"""Where images come from: a folder or an S3 prefix, listed without reading a byte, read by name.

Names and addresses of a source may tell a patient or a diagnosis: they stay in memory and on the operator's terminal.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Protocol

from medgr2.infra.objects import ObjectStore
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import NotFoundError, StorageError, UsageError

KEPT = "everything taken in before"


@dataclass(frozen=True, slots=True)
class SourceFile:
    name: str
    """Relative to the source, '/'-separated."""
    size: int
    stamp: str
    """Changes whenever the content does: times and inode in a folder, the entity tag in a bucket."""


class Source(Protocol):
    address: str

    def files(self) -> Iterator[SourceFile]:
        """Every file, by name; what cannot be looked at is listed with size -1."""
        ...


class FolderSource:
    def __init__(self, folder: Path) -> None:
        self.address = str(folder.expanduser().resolve())
        if not Path(self.address).is_dir():
            raise NotFoundError("no such folder", where=str(folder), kept=KEPT, next_command="medgr2 ingest FOLDER")
        try:
            os.scandir(self.address).close()
        except OSError as e:
            raise StorageError(
                f"cannot read the folder: {e.strerror}", where=str(folder), kept=KEPT,
                next_command=f"let this user read it, then run the same command again: {folder}",
            ) from None  # fmt: skip

    def files(self) -> Iterator[SourceFile]:
        yield from sorted(self._walk(self.address, ""), key=lambda file: file.name)

    def _walk(self, folder: str, prefix: str) -> Iterator[SourceFile]:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            yield SourceFile(prefix.rstrip("/"), -1, "")
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = prefix + entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(entry.path, name + "/")
                elif entry.is_file():
                    found = entry.stat()
                    yield SourceFile(name, found.st_size, f"{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}")
                elif entry.is_symlink() and not entry.is_dir():
                    yield SourceFile(name, -1, "")  # it leads nowhere: a file was meant, and has not come
            except OSError:
                yield SourceFile(name, -1, "")


class BucketSource:
    """Read with the keys and the endpoint of MEDGR2_STORAGE__S3__*, as the root is."""

    def __init__(self, address: str, storage: StorageSettings) -> None:
        self.address = address.rstrip("/")
        self._store = _bucket(self.address, storage)

    def files(self) -> Iterator[SourceFile]:
        for info in self._store.list(""):
            if not _hidden(info.key.split("/")) and not info.key.endswith("/"):
                yield SourceFile(info.key, info.size, info.tag or str(info.modified))


def _bucket(address: str, storage: StorageSettings) -> ObjectStore:
    from medgr2.infra.objects_s3 import S3Store

    return S3Store(storage.model_copy(update={"root": address}), any_key=True)


def _hidden(parts: Iterable[str]) -> bool:
    """'.' and '..' are names like any other in a bucket."""
    return any(part.startswith(".") and part not in (".", "..") for part in parts)


def locate(source: Source, name: str) -> str:
    """What a worker needs to find the file. Private, as names are."""
    return f"{source.address}\0{name}"


def open_source(address: str, storage: StorageSettings) -> Source:
    if not address.strip():
        # As a path it would be the folder one happens to stand in.
        raise UsageError("the source is empty", kept=KEPT, next_command="medgr2 ingest FOLDER, or s3://bucket/prefix")
    if address.startswith("s3://"):
        if not address.removeprefix("s3://").strip("/"):
            raise UsageError("an s3:// source needs a bucket", next_command="medgr2 ingest s3://bucket/prefix")
        bucket = BucketSource(address, storage)
        if storage.is_s3:
            _check_apart(PurePosixPath(storage.root), PurePosixPath(bucket.address), address, storage.root)
        return bucket
    if "://" in address:
        raise UsageError(f"cannot read from {address!r}", next_command="give a folder or s3://bucket/prefix")
    source = FolderSource(Path(address))
    if not storage.is_s3:
        _check_apart(Path(storage.root), Path(source.address), address, storage.root)
    return source


def _check_apart(root: PurePath, given: PurePath, address: str, stored: str) -> None:
    hidden = _hidden(root.parts[len(given.parts) :])
    if given.is_relative_to(root) or (root.is_relative_to(given) and not hidden):
        raise UsageError(
            "the source and the storage root lie in one another", where=f"{address}, {stored}", kept=KEPT,
            next_command="move one of them, or set MEDGR2_STORAGE__ROOT to another place",
        )  # fmt: skip


class SourceReader:
    """Reads files in a worker. An OSError or NotFoundError is the file's trouble, a StorageError the whole source's."""

    def __init__(self, storage: StorageSettings) -> None:
        self._storage = storage
        self._buckets: dict[str, ObjectStore] = {}

    def read(self, locator: str) -> bytes:
        address, _, name = locator.partition("\0")
        if not address.startswith("s3://"):
            with open(f"{address}/{name}", "rb") as f:  # noqa: PTH123  many small files: Path costs more than the call
                return f.read()
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = _bucket(address, self._storage)
        try:
            return bucket.get(name)
        except StorageError as e:
            raise StorageError(  # without the key, which may tell a patient
                e.what, where=address, kept=f"{KEPT}; what was read of this source, in the journal",
                next_command=f"bring it back and run the same command again  ({e.next_command})",
            ) from None  # fmt: skip
