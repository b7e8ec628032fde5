"""`medgr2 models`: what is registered, from what it came, and who is champion."""

from __future__ import annotations

import json
from typing import Any

import click

from medgr2.flows.output import emit
from medgr2.infra.settings import load_settings

# Accuracy on the newest held-out version that the model has answered.
HELDOUT = """
    select model_id, arg_max(accuracy, version) as accuracy
    from accuracy where condition = 'image' group by model_id"""


@click.command(name="models")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, with metrics.")
def command(as_json: bool) -> None:
    """Registered models with their lineage; a star marks the champion of a role."""
    from medgr2.infra.query import query
    from medgr2.infra.workspace import open_workspace
    from medgr2.models.registry import Registry
    from medgr2.schemas.vocabulary import Role

    settings = load_settings()
    workspace = open_workspace(settings)
    registry = Registry(workspace.store, workspace.lake)
    champions = {registry.champion(role) for role in Role}
    rows = sorted(workspace.lake.read("models").to_pylist(), key=lambda row: row["registered_at"])
    seen = {row["model_id"]: row["accuracy"] for row in query(settings.storage, HELDOUT).to_pylist()}
    emit(
        [_row(row, champions, seen.get(row["model_id"]), as_json) for row in rows],
        as_json=as_json,
        empty="no model yet: medgr2 loop",
    )


def _row(row: dict[str, Any], champions: set[str | None], heldout: float | None, whole: bool) -> dict[str, Any]:
    version = f"{row['dataset']}@{row['dataset_version']}" if row["dataset"] else None
    champion = row["model_id"] in champions
    if whole:
        return {**row, "metrics": json.loads(row["metrics"] or "{}"), "champion": champion, "heldout": heldout}
    return {
        "champion": "*" if champion else "", "role": row["role"], "method": row["method"],
        "model": row["model_id"][:12], "parent": (row["parent"] or "")[:12], "data": version, "heldout": heldout,
        "run": row["run"],
    }  # fmt: skip
