"""`medgr2 query SQL`: read-only SQL over everything that is stored."""

from __future__ import annotations

import click

from medgr2.flows.output import emit
from medgr2.flows.reading import readable_storage


@click.command(name="query")
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of rows.")
def command(sql: str, as_json: bool) -> None:
    """Answer one SQL question over the stored data. Nothing can be changed through it.

    Try: medgr2 query "show tables", or "select verdict, count(*) n from items_scored group by 1".
    """
    from medgr2.infra.query import query

    emit(query(readable_storage(), sql).to_pylist(), as_json=as_json, empty="no rows")
