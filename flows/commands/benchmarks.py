"""`medgr2 benchmarks`: pictures of public benchmarks, by hash and near-hash."""

from __future__ import annotations

from pathlib import Path

import click

from medgr2.flows.output import emit, emit_one
from medgr2.infra.settings import load_settings


@click.group(name="benchmarks")
def command() -> None:
    """Images of public benchmarks: known by hash and near-hash, never stored, never trained on."""


@command.command()
@click.argument("name")
@click.argument("source")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def add(name: str, source: str, as_json: bool) -> None:
    """Note the images of SOURCE, a folder, s3://bucket/prefix or a list made by `export`, as those of benchmark NAME.

    Images that were taken in before and look like one of them are quarantined.
    """
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.intake.shunned import shun

    emit_one(shun(open_workspace(load_settings()), name, source), as_json=as_json)


@command.command()
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path))
def export(name: str, out: Path) -> None:
    """Write the list of benchmark NAME: hashes and near-hashes, no picture."""
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.intake.shunned import export as write

    click.echo(f"{write(open_workspace(load_settings()), name, out)} images, {out}")


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def listed(as_json: bool) -> None:
    """The benchmarks that are known here."""
    from medgr2.infra.query import query

    sql = "select benchmark, count(*) as images, min(added_at) as since from benchmarks group by 1 order by 1"
    emit(query(load_settings().storage, sql).to_pylist(), as_json=as_json, empty="none yet: medgr2 benchmarks add")
