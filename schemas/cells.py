"""A cell is one unit of bought work. Its key is everything that can change its result, and nothing else.

A worker is handed the recipe and the cell and no more: what is not in the key cannot reach the work, so a
forgotten ingredient is impossible rather than unlikely. Never in a key: a path, a position, a worker count,
a batch size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from medgr2.schemas.digest import canonical_json, digest_of
from medgr2.schemas.usage import Usage
from medgr2.schemas.vocabulary import Verdict


class Recipe(BaseModel):
    """What all cells of one stage share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    code: str = Field(description="Version of the stage's code; raised by hand when its results change.")
    model: str = Field(default="", description="Revision (digest of the weights) of the model that does the work.")
    prompt: str = Field(default="", description="The prompt text itself: editing it makes new cells.")
    parameters: dict[str, JsonValue] = Field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        return digest_of(self.model_dump(mode="json"))

    @cached_property
    def _begun(self) -> bytes:
        """What is hashed first for each of its cells."""
        return self.digest.encode() + b"\0"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Recipe:
        # pydantic's own copy takes the cached digest along: a changed recipe would keep the old keys.
        del deep
        return Recipe.model_validate({**self.model_dump(), **(update or {})})

    def cell(
        self,
        *,
        image: str = "",
        parents: tuple[str, ...] = (),
        inputs: Mapping[str, JsonValue] | None = None,
        locator: str = "",
    ) -> Cell:
        body = dict(inputs or {})
        key = hashlib.sha256(self._begun + canonical_json([image, parents, body])).hexdigest()
        return Cell(key, image, parents, body, locator)


@dataclass(frozen=True, slots=True)
class Cell:
    """Made by Recipe.cell only; a plain dataclass because a night may hold a million of them."""

    key: str
    image: str = ""
    parents: tuple[str, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)
    locator: str = ""
    """Where the bytes named by `image` lie before they are in the store. Not in the key: the worker checks the hash."""

    @property
    def seed(self) -> int:
        """Randomness comes from what the cell is, never from when or where it runs."""
        return int(self.key[:15], 16)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell. `value` is JSON; `detail` is for people and never holds patient data."""

    key: str
    verdict: Verdict
    value: dict[str, Any] | None = None
    reasons: tuple[str, ...] = ()
    detail: str = ""
    attempt: int = 1
    usage: Usage | None = None
    """What it cost, where anybody counts."""

    @classmethod
    def accepted(cls, cell: Cell, value: dict[str, Any]) -> Outcome:
        return cls(key=cell.key, verdict=Verdict.ACCEPTED, value=value)

    @classmethod
    def rejected(cls, cell: Cell, *reasons: str, value: dict[str, Any] | None = None, detail: str = "") -> Outcome:
        return cls(key=cell.key, verdict=Verdict.REJECTED, value=value, reasons=reasons, detail=detail)

    @classmethod
    def failed(cls, cell: Cell, reason: str, detail: str = "") -> Outcome:
        return cls(key=cell.key, verdict=Verdict.FAILED, reasons=(reason,), detail=detail)
