"""Flags of the command line become the parameters of a flow, or one clear message about the flag that does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from medgr2.schemas.errors import UsageError
from medgr2.schemas.parameters import TrainParameters
from medgr2.schemas.presets import TrainSettings
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


def training_of(preset: str, changes: Sequence[str]) -> dict[str, str]:
    """A preset of training, and `name=value` for each setting that is to be another."""
    given: dict[str, str] = {"preset": preset}
    for change in changes:
        name, equals, value = (word.strip() for word in change.partition("="))
        if not equals or name not in TrainSettings.model_fields or name in given:
            close = difflib.get_close_matches(name, TrainSettings.model_fields, n=1)
            raise UsageError(
                f"--set: cannot read {change!r}",
                next_command=f"--set {close[0]}=..."
                if close
                else f"--set with one of: {', '.join(TrainSettings.model_fields)}",
            )
        given[name] = value
    try:
        TrainParameters.model_validate(given)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        name = f" {first['loc'][-1]}={first['input']}" if first["loc"] else ""
        raise UsageError(
            f"--set{name}: {first['msg'].removeprefix('Value error, ')}", next_command="medgr2 loop --help"
        ) from None
    return given
