"""`medgr2 doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

import sys

import click

from medgr2.flows.checks import run_checks
from medgr2.flows.output import emit
from medgr2.infra.settings import load_settings
from medgr2.schemas.errors import ExitCode


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def command(as_json: bool) -> None:
    """Check this machine, the settings, the storage and the model. Ends with 4 when something needed is broken."""
    found = run_checks(load_settings())
    emit([check.model_dump() for check in found], as_json=as_json)
    if any(check.state == "broken" for check in found):
        sys.exit(ExitCode.STORAGE)
