"""Flags of the command line become the parameters of a flow, or one clear message about the flag that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from medgr2.schemas.errors import UsageError
from medgr2.schemas.usage import Budget

P = TypeVar("P", bound=BaseModel)
EXAMPLE = {"calls": 1000, "tokens": 2000000, "money": 5, "hours": 8}


def fill(model: type[P], values: Mapping[str, Any], command: str) -> P:
    try:
        return model.model_validate(values)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        name = str(first["loc"][-1]).replace("_", "-") if first["loc"] else ""
        given = f", not {first['input']!r}" if name else ""
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"--{name}: {message}{given}" if name else message, next_command=f"medgr2 {command} --help"
        ) from None


def budget_of(text: str, model: type[BaseModel] = Budget, command: str = "refresh") -> dict[str, str] | None:
    """`calls=1000,money=5`, as a person types it."""
    if not text:
        return None
    limits: dict[str, str] = {}
    example = ",".join(f"{name}={EXAMPLE[name]}" for name in model.model_fields)
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name not in model.model_fields or name in limits:
            raise UsageError(
                f"--budget: cannot read {part.strip()!r}",
                next_command=f"medgr2 {command} --budget {example}  with any of them",
            )
        limits[name] = value
    return limits
