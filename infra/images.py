"""Image bytes by the hash of their content: stored once, read as local files, never trusted unread."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from medgr2.infra.objects import ObjectStore
from medgr2.infra.objects_folder import FolderStore
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, NotFoundError, UsageError

_SHA = re.compile(r"[0-9a-f]{64}")


class ImageStore:
    def __init__(self, store: ObjectStore, cache_folder: Path) -> None:
        self._store = store
        self._cache = cache_folder / "images"
        self._verified: set[str] = set()

    def put(self, data: bytes) -> str:
        sha = sha256_hex(data)
        if not self._store.exists(image_key(sha)):
            self._store.create(image_key(sha), data)
        return sha

    def put_all(self, pictures: Mapping[str, bytes]) -> None:
        """Pictures by the hash of their bytes; those that are there are left alone."""
        missing = {key: data for sha, data in pictures.items() if not self._store.exists(key := image_key(sha))}
        if missing:
            self._store.put_all(missing)

    def path(self, sha: str) -> Path:
        """A local file with these bytes: the object itself in a folder, a cached copy of it from S3."""
        key = image_key(sha)
        if isinstance(self._store, FolderStore):
            path = self._store.local_path(key)
            if sha not in self._verified and not path.is_file():
                raise _missing(sha, self._store.uri)
            return self._check(sha, path)
        path = self._cache / sha[:2] / sha
        if path.is_file():
            try:
                return self._check(sha, path)
            except DataError:
                path.unlink(missing_ok=True)  # a damaged copy is fetched again
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._store.get_file(key, path)
        except NotFoundError:
            raise _missing(sha, self._store.uri) from None
        return self._check(sha, path)

    def _check(self, sha: str, path: Path) -> Path:
        if sha in self._verified and path.is_file():
            return path
        found = sha256_hex(path.read_bytes())
        if found != sha:
            raise DataError(
                f"image {sha} is damaged: its bytes hash to {found[:12]}...",
                where=str(path),
                next_command="restore the object from a backup, or delete it and ingest the image again",
            )
        self._verified.add(sha)
        return path


def image_key(sha: str) -> str:
    if not _SHA.fullmatch(sha):
        raise UsageError(f"not an image id: {sha[:80]!r}", next_command="an image id is 64 hexadecimal digits")
    return f"images/sha256/{sha[:2]}/{sha}"


def _missing(sha: str, uri: str) -> NotFoundError:
    return NotFoundError(f"no image {sha}", where=uri, next_command="ingest the image again, or leave its items out")
