"""`medgr2 presets`: what each recipe of training is, setting by setting."""

from __future__ import annotations

import json
from typing import Any

import click

from medgr2.flows.output import emit
from medgr2.schemas.presets import BASES, PRESETS, TrainSettings


@click.command(name="presets")
@click.option("--all", "everything", is_flag=True, help="Also the settings in which all presets are alike.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the settings of each preset.")
def command(everything: bool, as_json: bool) -> None:
    """Recipes of training by name, for `medgr2 loop --preset`; each setting can be changed with --set."""
    if as_json:
        told = {name: {"base": BASES[name], **how.model_dump(mode="json")} for name, how in PRESETS.items()}
        click.echo(json.dumps(told))
        return
    emit([_base(), *(row for name in TrainSettings.model_fields if (row := _row(name, everything)))], as_json=False)


def _base() -> dict[str, Any]:
    return {"setting": "made for"} | {name: base.rpartition("/")[2] or "any" for name, base in BASES.items()}


def _row(setting: str, everything: bool) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(how, setting) for name, how in PRESETS.items()}
    alike = len(set(values.values())) == 1
    return {"setting": setting, **values} if everything or not alike else {}
