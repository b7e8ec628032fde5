"""`medgr2 promote`: make a registered model the champion of its role, by hand."""

from __future__ import annotations

import click

from medgr2.infra.settings import load_settings


@click.command(name="promote")
@click.argument("model_id")
@click.option("--reason", default="promoted by hand", show_default=True, help="Kept with the move.")
def command(model_id: str, reason: str) -> None:
    """Make MODEL_ID (or the beginning of it) the champion of its role. No exam is sat: the word is yours."""
    from medgr2.flows.champions import told
    from medgr2.infra.workspace import open_workspace
    from medgr2.models.registry import Registry
    from medgr2.schemas.vocabulary import Role

    workspace = open_workspace(load_settings())
    registry = Registry(workspace.store, workspace.lake)
    model = registry.find(model_id)
    role = Role(model["role"])
    current = registry.champion(role)
    if current == model["model_id"]:
        click.echo(f"{role.value}: {model['model_id'][:12]} is the champion already, nothing was moved")
        return
    move = registry.promote(role, model["model_id"], reason=reason, expected_current=current)
    for line in told(registry, move):
        click.echo(line)
