"""Where a source's labels are: a file named by the operator, one in the source, a benchmark's layout, or none."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

from medgr2.infra.objects import ObjectStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.infra.sources import Source
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import NotFoundError, UsageError
from medgr2.schemas.intake import IntakeParameters
from medgr2.tasks.intake.case import Hasher
from medgr2.tasks.intake.columns import NOTHING, Columns
from medgr2.tasks.intake.labels import CODE, Labels, read_labels
from medgr2.tasks.intake.layouts import Layout, layout_of

USUAL = ("labels.csv", "labels.parquet", "labels.jsonl")
PRIVATE = "medgr2-labels-"


class PrivateFolder:
    """Gone with its owner. What owners left behind that were killed, the next one removes: their lock is open."""

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{PRIVATE}*"):
            _remove_what_nobody_holds(left)
        self._folder, lock = _held_folder()
        self.path = Path(self._folder.name)
        self._unlock = weakref.finalize(self, os.close, lock)

    def close(self) -> None:
        self._folder.cleanup()
        self._unlock()


def _held_folder() -> tuple[tempfile.TemporaryDirectory[str], int]:
    """Until it is locked, another process may take it for one that was left behind: then the next one is made."""
    while True:
        folder = tempfile.TemporaryDirectory(prefix=PRIVATE)
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder.name, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if Path(folder.name).exists():
                return folder, lock
            os.close(lock)
        folder.cleanup()


def _remove_what_nobody_holds(left: Path) -> None:
    """Under its lock: whoever made it meanwhile waits, and finds it gone."""
    try:
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    except OSError:  # somebody holds it, or it cannot be told
        pass
    finally:
        os.close(lock)


@dataclass
class Telling:
    """Found, and not read yet: a source that is as it was needs no more than the digest."""

    parameters: IntakeParameters
    file: Path | None = None
    layout: Layout | None = None
    _held: PrivateFolder | None = None

    @property
    def digest(self) -> str:
        """Of the bytes of the labels; how they are understood is in the parameters."""
        if self.layout is not None:
            return sha256_hex("".join(_digest(self.layout.folder / file) for file in self.layout.files).encode())
        return CODE + (_digest(self.file) if self.file else "")

    def read(self, hashed: Hasher) -> Labels:
        if self.layout is not None:
            return self.layout.read(hashed)[0]
        if self.file is None:
            return Labels.none()
        return read_labels(self.file, Columns.of(self.parameters.columns, self.parameters.keep), hashed)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError:
        return ""  # reading it says what is wrong


def find_telling(source: Source, labels: str, parameters: IntakeParameters, storage: StorageSettings) -> Telling:
    if parameters.layout:
        return Telling(parameters, layout=_layout(source, labels, parameters.layout))
    if labels.startswith("s3://") or (not labels and source.address.startswith("s3://")):
        return _from_bucket(labels or source.address, bool(labels), storage, parameters)
    if labels:
        return Telling(parameters, Path(labels))
    folder = Path(source.address)
    found = [name for name in USUAL if (folder / name).is_file()]
    if len(found) > 1:
        raise UsageError(
            f"the source holds {' and '.join(found)}", where=source.address, kept=NOTHING,
            next_command=f"medgr2 ingest SOURCE --labels SOURCE/{found[0]}",
        )  # fmt: skip
    return Telling(parameters, folder / found[0] if found else None)


def _layout(source: Source, labels: str, name: str) -> Layout:
    if labels or source.address.startswith("s3://"):
        raise UsageError(
            "a benchmark's layout brings its own labels, and is read from a folder", kept=NOTHING,
            next_command=f"medgr2 ingest FOLDER --layout {name}",
        )  # fmt: skip
    return layout_of(source.address, name)


def _from_bucket(address: str, named: bool, storage: StorageSettings, parameters: IntakeParameters) -> Telling:
    """Fetched to a private folder for as long as they are needed: they may name patients."""
    prefix, _, name = address.rpartition("/") if named else (address, "", "")
    store = open_store(storage.model_copy(update={"root": prefix}))
    folder = PrivateFolder()
    for one in (name,) if named else USUAL:
        if (path := _fetched(store, one, folder.path)) is not None:
            return Telling(parameters, path, _held=folder)
    folder.close()
    if named:
        raise NotFoundError(
            "no labels file", where=address, kept=NOTHING, next_command="medgr2 ingest SOURCE --labels FILE"
        )
    return Telling(parameters)


def _fetched(store: ObjectStore, name: str, folder: Path) -> Path | None:
    try:
        store.get_file(name, folder / name)
    except NotFoundError:
        return None
    return folder / name
