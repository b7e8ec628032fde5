"""Model folders by the hash of their content. The manifest is written last: a model without one does not exist."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from pathlib import Path

from medgr2.infra.objects import ObjectStore
from medgr2.infra.objects_folder import FolderStore
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import DataError, NotFoundError, UsageError

SAFE_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".jinja", ".model", ".md"})
"""Formats whose reading cannot run code."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def put_folder(store: ObjectStore, folder: Path) -> str:
    """Store all files of a saved model; its digest, which is the same for the same names and bytes."""
    files = _safe_files(folder)
    hashes = {path.relative_to(folder).as_posix(): _hash(path) for path in files}
    digest = digest_of(hashes)
    if store.exists(_manifest_key(digest)):
        return digest
    for name in hashes:
        store.put_file(f"models/{digest}/files/{name}", folder / name)
    store.put(_manifest_key(digest), json.dumps(hashes, sort_keys=True, indent=1).encode())
    return digest


def holds(store: ObjectStore, digest: str) -> bool:
    """Whether the model of that digest is in this store."""
    return bool(_DIGEST.fullmatch(digest)) and store.exists(_manifest_key(digest))


def get_folder(store: ObjectStore, digest: str, cache_folder: Path) -> Path:
    """A local folder with exactly these files: the objects themselves in a folder store, else a cached copy."""
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"not the digest of a model: {digest[:80]!r}")
    if isinstance(store, FolderStore):
        folder = store.local_path(f"models/{digest}/files")
        _verify(folder, _manifest(store, digest), digest)
        return folder
    target = cache_folder / "models" / digest
    if target.is_dir():  # complete, or it would not have this name
        return target
    hashes = _manifest(store, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{digest}.{uuid.uuid4().hex}")
    try:
        for name in hashes:
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(f"models/{digest}/files/{name}", path)
        _verify(temporary, hashes, digest)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # not another process that was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _manifest(store: ObjectStore, digest: str) -> dict[str, str]:
    try:
        hashes: dict[str, str] = json.loads(store.get(_manifest_key(digest)))
    except NotFoundError:
        raise NotFoundError(
            f"no model with the digest {digest}", where=store.uri, next_command="train or register the model again"
        ) from None
    except ValueError:
        hashes = {}
    if digest_of(hashes) != digest:
        raise _damaged(digest, "its manifest", store.uri)
    return hashes


def _manifest_key(digest: str) -> str:
    return f"models/{digest}/manifest.json"


def _verify(folder: Path, hashes: dict[str, str], digest: str) -> None:
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file() or _hash(path) != expected:
            raise _damaged(digest, name, str(folder))


def _safe_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}", next_command="save the model with save_pretrained first")
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path.name} is a link that leads out of the model's folder", where=str(folder))
        if path.is_dir() and not path.is_symlink():
            continue
        if not path.is_file() or path.suffix.lower() not in SAFE_SUFFIXES:
            raise DataError(
                f"{path.relative_to(folder).as_posix()} may not be part of a model",
                where=str(folder),
                kept="nothing was stored",
                next_command="save weights as safetensors and leave out optimizer states and pickles",
            )
        files.append(path)
    if not files:
        raise DataError("the model's folder is empty", where=str(folder))
    return files


def _hash(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _damaged(digest: str, part: str, where: str) -> DataError:
    return DataError(
        f"model {digest[:12]} is damaged: {part} is missing or differs",
        where=where,
        next_command="restore it from a backup, or register the model again",
    )
