"""What passes between the process that asks for a training and those that share its steps: the job, and what they say.

It lies in a folder that only its owner can read, and is gone when the training is: rows hold what people wrote.
"""

from __future__ import annotations

import json
import os
import re
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medgr2.models.care import Sharding
from medgr2.schemas import errors

JOB, QUIT = "job.json", "quit"
Method = Literal["sft", "grpo"]


class CrewJob(BaseModel):
    """A training, with who shares it. Pictures are named by their paths in the cache of this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    base: Path
    out: Path
    rows: list[dict[str, Any]]
    settings: dict[str, Any]
    processes: int = Field(ge=2)
    sharding: Sharding
    stall_seconds: float
    grace_seconds: float
    resume: Literal["exact", "anew"]
    grader: dict[str, Any] = Field(default={}, description="How the service is reached that grades replies.")

    def write(self, folder: Path) -> None:
        write_private(folder / JOB, self.model_dump_json())

    @classmethod
    def read(cls, folder: Path) -> CrewJob:
        return cls.model_validate_json((folder / JOB).read_bytes())


class Complaint(BaseModel):
    """How one of them ended that did not finish. Errors of others than ours are told by their class and place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    what: str
    where: str = ""
    kept: str = ""
    next_command: str = ""
    moment: float

    @classmethod
    def of(cls, error: BaseException) -> Complaint:
        if isinstance(error, errors.Medgr2Error):
            return cls(
                kind=type(error).__name__,
                what=error.what,
                where=error.where,
                kept=error.kept,
                next_command=error.next_command,
                moment=time.time(),
            )
        calls = traceback.extract_tb(error.__traceback__)
        place = f" in {calls[-1].name} ({Path(calls[-1].filename).name}, line {calls[-1].lineno})" if calls else ""
        return cls(kind="", what=f"{type(error).__name__}{place}", moment=time.time())

    def leave(self, folder: Path, rank: int) -> None:
        write_private(folder / f"complaint-{rank}.json", self.model_dump_json())

    @classmethod
    def first(cls, folder: Path) -> Complaint | None:
        """Of several the earliest: what follows is mostly that the others wait for it in vain."""
        found = [cls.model_validate_json(path.read_bytes()) for path in folder.glob("complaint-*.json")]
        return min(found, key=lambda one: one.moment, default=None)

    def error(self) -> errors.Medgr2Error | None:
        """As it was raised, where it is one of ours."""
        kind = getattr(errors, self.kind, None) if self.kind else None
        if not (isinstance(kind, type) and issubclass(kind, errors.Medgr2Error)):
            return None
        return kind(self.what, where=self.where, kept=self.kept, next_command=self.next_command)


def rows_of(given: Sequence[Any]) -> list[dict[str, Any]]:
    """Dataclasses as plain values."""
    return [asdict(one) for one in given]


def write_private(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    new.rename(path)


def last_error(log: Path) -> str:
    """The class of the last exception that a process printed, or how the launcher says that one ended. The text of an
    exception may quote what it was given, and is not told."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    names = [line.partition(":")[0].rpartition(".")[2] for line in lines]
    said = [name for name in names if name.isidentifier() and name.endswith("Error") and name != "ChildFailedError"]
    ended = [found.group(1) for line in lines if (found := re.match(r"\s*exitcode\s*:\s*(-?\d+)", line))]
    return said[-1] if said else f"one with exit code {ended[-1]}" if ended else ""


def json_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
