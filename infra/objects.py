"""The object store seam: a folder or an S3 bucket, with the few verbs that both can keep their word on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int
    modified: float
    tag: str = ""
    """The entity tag, where the store has one: other bytes, other tag."""


class ObjectStore(Protocol):
    """Keys are relative, '/'-separated and never start with '/'. Every write is atomic and durable on return."""

    uri: str

    def get(self, key: str) -> bytes:
        """The bytes; NotFoundError when there is no such object."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Create or replace."""
        ...

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Create or replace many, each atomically; all are durable on return, for little more than the price of one."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Create only: False, and nothing changed, when the key is taken. The one primitive others build on."""
        ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects under prefix, in key order."""
        ...

    def delete(self, key: str) -> None:
        """No error when it is gone already."""
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Stream to a local file (written under a temporary name, then renamed)."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Stream from a local file."""
        ...
