"""`medgr2 config show`: every setting, its value and where that came from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click
from pydantic import BaseModel

from medgr2.flows.output import emit
from medgr2.infra.settings import PREFIX, load_settings


@click.group(name="config", help="The settings in force and where they come from.")
def command() -> None: ...


@command.command(name="show", help="List every setting. Secrets are masked.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def show(as_json: bool) -> None:
    emit(list(_rows(load_settings())), as_json=as_json)


def _rows(model: BaseModel, prefix: str = PREFIX) -> Iterator[dict[str, Any]]:
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        full = prefix + name.upper()
        if isinstance(value, BaseModel):
            yield from _rows(value, full + "__")
            continue
        yield {
            "setting": full,
            "value": "" if value is None else str(value),
            "source": "environment" if any(n.upper() == full for n in os.environ) else "default",
            "about": info.description or "",
        }
