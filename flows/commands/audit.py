"""`medgr2 audit splits`: the proof, on stored data, that no split leaks into another."""

from __future__ import annotations

import click

from medgr2.flows.output import emit_one
from medgr2.infra.settings import load_settings
from medgr2.schemas.errors import DataError


@click.group(name="audit")
def command() -> None:
    """Checks of the stored data that trust nothing an earlier run said."""


@command.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def splits(as_json: bool) -> None:
    """Compare every patient, group, picture, item and benchmark image across the splits.

    Ends with exit code 6 when anything leaks.
    """
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.intake.audit import audit_splits

    workspace = open_workspace(load_settings())
    audit = audit_splits(workspace)
    emit_one({**audit.model_dump(), "violations": audit.violations}, as_json=as_json)
    if audit.violations:
        failed = [check.name for check in audit.checks if check.violations]
        raise DataError(
            f"the splits leak: {audit.violations} violations",
            where="; ".join(failed),
            kept="everything; an audit changes nothing",
            next_command="ingest the sources again: what may not be used is quarantined then",
        )
