"""The registry: what every model came from, and which one is the champion of its role.

A model is called by its role and number, policy@3: the third policy that was registered, for good.

A role's champion is the end of a chain of numbered objects, aliases/<role>/<n>.json, each created once and never
changed. To move it is to create the next number: of two that try at once, one is refused. A role may have none: then
the base serves, and of the reward nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgr2.infra.lake import Lake
from medgr2.infra.lake_rows import to_arrow
from medgr2.infra.objects import ObjectStore
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import ConflictError, DataError, NotFoundError, UsageError
from medgr2.schemas.vocabulary import Role

Purpose = Literal["train", "evaluate"]


class Source(BaseModel):
    """An exact dataset version that a model read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    version: int
    digest: str


class Registration(BaseModel):
    """A model with its lineage. The first source is what it was trained for; the others were mixed in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    artifact: str = Field(description="Digest of the weights and their files.")
    method: str
    parent: str = Field(default="", description="model_id of the model it was trained from.")
    sources: tuple[Source, ...] = ()
    reward: str = Field(default="", description="What rewarded it, and which calibration and scorer chose its data.")
    code: str = ""
    recipe: str = ""
    metrics: dict[str, Any] = {}
    run: str = ""

    @property
    def model_id(self) -> str:
        return digest_of([self.role, self.artifact, self.recipe])


class Move(BaseModel):
    """One move of a champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    number: int
    action: Literal["promote", "rollback"]
    model_id: str | None = Field(description="None: the first champion was taken back, and the role has none.")
    replaced: str | None
    reason: str
    moved_at: datetime


class Registry:
    def __init__(self, store: ObjectStore, lake: Lake) -> None:
        self._store = store
        self._lake = lake

    def register(self, entry: Registration) -> str:
        """Add the model and what it read; a second time, nothing is added. Returns its model_id."""
        model_id, now = entry.model_id, datetime.now(UTC)
        main = entry.sources[0] if entry.sources else None
        row = {
            "model_id": model_id,
            "role": entry.role.value,
            "artifact": entry.artifact,
            "parent": entry.parent,
            "method": entry.method,
            "dataset": main.dataset if main else None,
            "dataset_version": main.version if main else None,
            "dataset_digest": main.digest if main else None,
            "reward": entry.reward,
            "code": entry.code,
            "recipe": entry.recipe,
            "metrics": json.dumps(entry.metrics, sort_keys=True),
            "run": entry.run,
            "registered_at": now,
        }
        # What was read is written first: a model in the registry has always told what it saw.
        for source in entry.sources:
            self.record_use(model_id, source, "train", entry.run)
        self._lake.retry(f"register a {entry.role.value}", lambda: self._number(row))
        return model_id

    def _number(self, row: dict[str, Any]) -> None:
        """Under the next number of its role. Whoever registers anything in between makes this start again."""
        with self._lake.state("models", write=True) as delta:
            held = self._lake.read_at(delta, "models", ["model_id", "role", "number", "registered_at"]).to_pylist()
            if not any(other["model_id"] == row["model_id"] for other in held):
                taken = [number for other, number in _numbers(held).items() if other[0] == row["role"]]
                numbered = row | {"number": max(taken, default=0) + 1}
                self._lake.commit(delta, to_arrow("models", [numbered]), strict=True)

    def names(self) -> dict[str, str]:
        """What each model is called."""
        rows = self._lake.read("models", ["model_id", "role", "number", "registered_at"]).to_pylist()
        return {model_id: f"{role}@{number}" for (role, model_id), number in _numbers(rows).items()}

    def record_use(self, model_id: str, source: Source, purpose: Purpose, run: str) -> None:
        row = {
            "use_id": digest_of([model_id, source.model_dump(), purpose]),
            "model_id": model_id,
            **source.model_dump(),
            "purpose": purpose,
            "run": run,
            "used_at": datetime.now(UTC),
        }
        self._lake.append_new("uses", [row], key="use_id")

    def model(self, model_id: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self._lake.read("models", where={"model_id": model_id}).to_pylist()
        if not rows:
            raise NotFoundError(
                f"no model {model_id!r} in the registry",
                where="table models",
                next_command='medgr2 query "select model_id, role, registered_at from models"',
            )
        return rows[0] | {"metrics": json.loads(rows[0]["metrics"] or "{}")}

    def find(self, begins: str) -> dict[str, Any]:
        """The model of that name, policy@3, or whose id begins so: what a person types."""
        called = [model_id for model_id, name in self.names().items() if name == begins]
        if called:
            return self.model(called[0])
        ids = self._lake.read("models", columns=["model_id"])["model_id"].to_pylist() if begins else []
        found = [model_id for model_id in ids if model_id.startswith(begins)]
        if len(found) > 1:
            raise UsageError(f"{len(found)} models begin with {begins}", next_command="give more of the id")
        return self.model(found[0] if found else begins)

    def taught(self, model_id: str) -> tuple[Source, ...]:
        """Every version that the model or a model it came from was trained on: what it may remember."""
        seen: set[str] = set()
        sources: set[Source] = set()
        following = model_id
        while following and following not in seen:
            seen.add(following)
            uses = self._lake.read("uses", where={"model_id": following, "purpose": "train"}).to_pylist()
            sources |= {Source(dataset=u["dataset"], version=u["version"], digest=u["digest"]) for u in uses}
            following = self.model(following)["parent"] or ""
        return tuple(sorted(sources, key=lambda source: (source.dataset, source.version)))

    def history(self, role: Role) -> list[Move]:
        """All moves of the role's champion, the oldest first."""
        keys = [o.key for o in self._store.list(f"aliases/{role.value}/")]
        return [self._read(key) for key in sorted(keys)]

    def champion(self, role: Role) -> str | None:
        """model_id of the role's champion; None before the first promotion, and after that was taken back."""
        moves = self.history(role)
        return moves[-1].model_id if moves else None

    def promote(self, role: Role, model_id: str, *, reason: str, expected_current: str | None) -> Move:
        """Make the model the role's champion, provided that the champion still is the one it was compared with."""
        held = self.model(model_id)["role"]
        if held != role.value:
            raise UsageError(f"model {model_id[:12]} is a {held}, it can not be the {role.value}")
        if role is Role.BASE:
            raise UsageError(
                f"model {model_id[:12]} is a base: it serves wherever a role has no champion, and is none",
                kept="no champion was moved",
                next_command="medgr2 rollback ROLE  goes back, in the end to the base",
            )
        moves = self.history(role)
        current = moves[-1].model_id if moves else None
        if current == model_id:
            return moves[-1]
        if current != expected_current:
            raise self._moved(role, expected_current, current)
        return self._move(role, len(moves), "promote", model_id, current, reason, expected_current)

    def rollback(self, role: Role, *, reason: str, expected_current: str | None = None) -> Move:
        """Back to the champion before this one; again, and further back; before the first one there is none.
        With `expected_current`, provided that this still is the champion."""
        moves = self.history(role)
        stack: list[str | None] = [None]
        for move in moves:
            if move.action == "promote":
                stack.append(move.model_id)
            else:
                stack.pop()
        if len(stack) < 2:
            raise NotFoundError(
                f"the {role.value} has no champion, so there is no earlier champion to go back to",
                kept="the champion stays unset",
                next_command="medgr2 models",
            )
        if expected_current not in (None, stack[-1]):
            raise self._moved(role, expected_current, stack[-1])
        return self._move(role, len(moves), "rollback", stack[-2], stack[-1], reason, stack[-1])

    def _move(
        self,
        role: Role,
        number: int,
        action: Literal["promote", "rollback"],
        model_id: str | None,
        replaced: str | None,
        reason: str,
        expected: str | None,
    ) -> Move:
        move = Move(
            role=role,
            number=number,
            action=action,
            model_id=model_id,
            replaced=replaced,
            reason=reason,
            moved_at=datetime.now(UTC),
        )
        if not self._store.create(f"aliases/{role.value}/{number:08d}.json", move.model_dump_json().encode()):
            raise self._moved(role, expected, self.champion(role))
        return move

    def _read(self, key: str) -> Move:
        try:
            return Move.model_validate_json(self._store.get(key))
        except ValidationError:
            raise DataError(
                "the record of a champion's move is damaged",
                where=key,
                kept="every model stays registered, and no champion was moved",
                next_command="bring the object back from a backup; without one, delete it if it is the last of its "
                "folder: the champion before it counts again",
            ) from None

    @staticmethod
    def _moved(role: Role, expected: str | None, current: str | None) -> ConflictError:
        now, then = (current or "unset")[:12], (expected or "unset")[:12]
        return ConflictError(
            f"the champion of {role.value} is {now}, not {then} as expected",
            where=f"aliases/{role.value}/",
            kept="the champion was not moved; the candidate stays registered",
            next_command="evaluate the candidate against the champion of now",
        )


def _numbers(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
    """By role and id. Those that an older release registered have no number: they come first, in their order."""
    found: dict[tuple[str, str], int] = {}
    counted: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: (row["registered_at"], row["model_id"])):
        counted[row["role"]] += row["number"] is None
        found[row["role"], row["model_id"]] = row["number"] or counted[row["role"]]
    return found
