"""Checkpoints of a training under way, in the object store: a lost machine takes its scratch folder along, not these.

Each is a folder of objects whose receipt is written last; one without it, or with other bytes than its receipt says,
does not count. Unlike models they hold states in torch's own format, which may only be read with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medgr2.infra.objects import ObjectStore
from medgr2.schemas.errors import DataError, NotFoundError

PREFIX = "checkpoints"
SUFFIXES = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model", ".md", ".pt", ".pth"})
IN_PARTS = frozenset({"optimizer.bin", "pytorch_model_fsdp.bin"})
"""What accelerate calls the states of a model that was trained in parts."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A whole checkpoint: `files` are the hashes of its files by name. The one with more merit is the better one."""

    step: int
    merit: float
    files: dict[str, str]


class CheckpointVault:
    """Of one training: the latest checkpoint and the `best` ones before it."""

    def __init__(self, store: ObjectStore, name: str, best: int = 2) -> None:
        self._store, self._root, self._best = store, f"{PREFIX}/{name}", best
        self.where = f"{store.uri}/{self._root}"

    def put(self, folder: Path, step: int, merit: float) -> None:
        """A step is stored once: the same training makes the same checkpoint of it."""
        names = _names(folder)
        if self._receipt(step) is None:
            for name in names:
                self._store.put_file(self._file(step, name), folder / name)
            body = {"merit": merit if math.isfinite(merit) else None, "files": {n: _hash(folder / n) for n in names}}
            self._store.put(self._key(step), json.dumps(body, sort_keys=True).encode())
        self._prune()

    def kept(self) -> list[Kept]:
        """Newest first. Their bytes are looked at when they are fetched."""
        found = (self._receipt(step) for step in sorted(self._steps(), reverse=True))
        return [one for one in found if one is not None]

    def fetch(self, one: Kept, folder: Path) -> None:
        """Into the folder, which is only then whole."""
        for name, expected in one.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._store.get_file(self._file(one.step, name), path)
            except NotFoundError:
                raise self._damaged(one, name) from None
            if _hash(path) != expected:
                raise self._damaged(one, name)

    def drop(self, one: Kept) -> None:
        # The receipt first: what is left of a checkpoint that was cut off here does not count.
        self._store.delete(self._key(one.step))
        self._clear(one.step)

    def forget(self) -> None:
        """The training is done, and its model stored."""
        for key in sorted(self._keys(), key=lambda key: not key.endswith("/receipt.json")):
            self._store.delete(key)

    def _prune(self) -> None:
        latest, *older = self.kept() or [Kept(-1, 0.0, {})]
        for one in sorted(older, key=lambda one: (-one.merit, -one.step))[self._best :]:
            self.drop(one)
        for step in self._steps():
            if step < latest.step and self._receipt(step) is None:
                self._clear(step)

    def _clear(self, step: int) -> None:
        for found in list(self._store.list(f"{self._root}/{step:010d}/")):
            self._store.delete(found.key)

    def _keys(self) -> Iterator[str]:
        return (found.key for found in self._store.list(f"{self._root}/"))

    def _steps(self) -> set[int]:
        parts = (key.removeprefix(f"{self._root}/").split("/")[0] for key in self._keys())
        return {int(part) for part in parts if part.isdecimal()}

    def _receipt(self, step: int) -> Kept | None:
        try:
            body = json.loads(self._store.get(self._key(step)))
            merit = body["merit"]
            files = {str(name): str(expected) for name, expected in body["files"].items()}
        except (NotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Kept(step, -math.inf if merit is None else float(merit), files)

    def _key(self, step: int) -> str:
        return f"{self._root}/{step:010d}/receipt.json"

    def _file(self, step: int, name: str) -> str:
        return f"{self._root}/{step:010d}/files/{name}"

    def _damaged(self, one: Kept, name: str) -> DataError:
        return DataError(
            f"the checkpoint of step {one.step} is damaged: {name} is missing or differs",
            where=self.where,
            kept="older checkpoints, which are tried next",
        )


def _names(folder: Path) -> list[str]:
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    if strange := [name for name in names if Path(name).suffix not in SUFFIXES and name not in IN_PARTS]:
        raise DataError(
            f"{strange[0]} may not be part of a stored checkpoint",
            where=str(folder),
            kept="the checkpoint in the scratch folder",
            next_command="set MEDGR2_TRAINING__STORE_EVERY=0 to store none, then the same command again",
        )
    return names


def _hash(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
