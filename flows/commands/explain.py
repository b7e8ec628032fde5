"""`medgr2 explain ITEM_ID`: the whole life of one item."""

from __future__ import annotations

import click

from medgr2.flows.output import emit_one
from medgr2.flows.reading import readable_storage


@click.command(name="explain")
@click.argument("item_id")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(item_id: str, as_json: bool) -> None:
    """Walk an item from its image's hash to the models that trained on it. A unique prefix of the id is enough."""
    from medgr2.tasks.lineage import explain

    emit_one(explain(readable_storage(), item_id), as_json=as_json)
