"""Outdated: items about a picture that was replaced, or written from facts that have been corrected since.

What people wrote is never outdated: they saw the picture themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.lake import Amendment, Lake
from medgr2.models.facts import Facts, names_of
from medgr2.schemas.vocabulary import Origin
from medgr2.tasks.facts import COLUMNS
from medgr2.tasks.intake.survey import newest


def superseded(lake: Lake) -> set[str]:
    """Images whose file now gives others instead. A file that is gone, or cannot be read today, replaces nothing."""
    files = lake.read("files", ["file_id", "images", "seen_at"])
    if not files.num_rows:
        return set()
    now = newest(files)
    gives = now.filter(pc.greater(pc.list_value_length(now["images"]), 0).fill_null(False))
    before = files.filter(pc.is_in(files["file_id"], value_set=gives["file_id"]))
    named, held = _named(before), _named(now)
    return set(named.filter(pc.invert(pc.is_in(named, value_set=held))).to_pylist())


def outdated(lake: Lake) -> set[str]:
    """Ids of generated items that may not stay."""
    items = lake.read("items", ["item_id", "image_id", "context"], {"origin": Origin.GENERATED.value})
    gone = pa.array(sorted(superseded(lake)), pa.string())
    replaced = items.filter(pc.is_in(items["image_id"], value_set=gone))["item_id"].to_pylist()
    told = items.filter(pc.is_valid(items["context"]))
    rows = lake.read("images", COLUMNS, {"image_id": pc.unique(told["image_id"]).to_pylist()}).to_pylist()
    facts = {row["image_id"]: Facts.of(row) for row in rows}
    now: dict[tuple[str, tuple[str, ...]], str] = {}
    stale = set(replaced)
    for row in told.to_pylist():
        if (known := facts.get(row["image_id"])) is None:
            continue
        names = names_of(row["context"])
        if (row["image_id"], names) not in now:
            now[row["image_id"], names] = known.context(names)
        if now[row["image_id"], names] != row["context"]:
            stale.add(row["item_id"])
    return stale


def renew_contexts(lake: Lake, contexts: Mapping[str, str]) -> None:
    """An item that was written again from corrected facts, word for word, stands on these from now on."""
    asked = {"item_id": list(contexts), "origin": Origin.GENERATED.value}
    held = lake.read("items", ["item_id", "context"], asked).to_pylist()
    other = {row["item_id"]: now for row in held if row["context"] != (now := contexts[row["item_id"]])}
    if not other:
        return

    def make(table: pa.Table) -> Amendment:
        rows = table.filter(pc.is_in(table["item_id"], value_set=pa.array(list(other))))
        at = rows.schema.get_field_index("context")
        column = pa.array([other[item_id] for item_id in rows["item_id"].to_pylist()], pa.string())
        return Amendment(rows.num_rows > 0, [rows.set_column(at, "context", column)])

    lake.amend("items", make, key="item_id")


def _named(files: pa.Table) -> pa.Array:
    return pc.unique(pc.list_flatten(files["images"].combine_chunks()))
