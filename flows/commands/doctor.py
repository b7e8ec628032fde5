"""`medgr2 doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

import sys

import click

from medgr2.flows.checks import run_checks
from medgr2.flows.checks_engines import engine_checks
from medgr2.flows.output import emit
from medgr2.infra.settings import load_settings
from medgr2.schemas.errors import ExitCode


@click.command(name="doctor")
@click.option("--ask", is_flag=True, help="Put one real question about a drawn picture to the generator's server.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def command(ask: bool, as_json: bool) -> None:
    """Check this machine, the settings, the storage, the model and the generator's engine. Ends with 4 when something
    needed is broken."""
    settings = load_settings()
    found = [*run_checks(settings), *engine_checks(settings, ask=ask)]
    emit([check.model_dump() for check in found], as_json=as_json)
    broken = [check for check in found if check.state == "broken"]
    if not as_json:
        for check in broken:  # in full: the table has no room for a command
            click.echo(f"\n{check.check}: {check.seen}\n  next: {check.next}")
    if broken:
        sys.exit(ExitCode.STORAGE)
