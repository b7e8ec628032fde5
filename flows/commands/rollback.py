"""`medgr2 rollback`: back to the champion before this one."""

from __future__ import annotations

import click

from medgr2.infra.settings import load_settings
from medgr2.schemas.vocabulary import Role

ROLES = [role.value for role in Role if role is not Role.BASE]


@click.command(name="rollback")
@click.argument("role", type=click.Choice(ROLES))
@click.option("--reason", default="rolled back by hand", show_default=True, help="Kept with the move.")
def command(role: str, reason: str) -> None:
    """Take the champion of ROLE back; the one before serves again, or none. The model stays registered."""
    from medgr2.flows.champions import told
    from medgr2.infra.workspace import open_workspace
    from medgr2.models.registry import Registry

    workspace = open_workspace(load_settings())
    registry = Registry(workspace.store, workspace.lake)
    for line in told(registry, registry.rollback(Role(role), reason=reason)):
        click.echo(line)
