"""`medgr2 compact`: housekeeping of the lake and the journal."""

from __future__ import annotations

import click

from medgr2.flows.output import emit_one
from medgr2.infra.settings import load_settings


@click.command(name="compact")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(dry_run: bool, as_json: bool) -> None:
    """Merge small files and clear what abandoned publishes left. No version loses a row by it."""
    from medgr2.infra.maintenance import compact
    from medgr2.infra.workspace import open_workspace

    workspace = open_workspace(load_settings())
    report = compact(workspace.lake, workspace.store, dry_run=dry_run)
    emit_one(report.model_dump(), as_json=as_json)
