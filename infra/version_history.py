"""The history of a dataset: its versions, and the members of each, folded from the changes that were published."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa

from medgr2.infra.lake import Lake
from medgr2.schemas.digest import digest_of_ids
from medgr2.schemas.errors import DataError
from medgr2.schemas.reports import DatasetVersion


@dataclass(frozen=True)
class Difference:
    added: tuple[str, ...]
    removed: tuple[str, ...]


def versions(lake: Lake, dataset: str | None = None) -> list[DatasetVersion]:
    return history_of(lake.read("versions", where={"dataset": dataset} if dataset else None))


def members(lake: Lake, version: DatasetVersion) -> list[str]:
    """The item ids of a version, sorted, and proven to be the ones that were published."""
    history = [v for v in versions(lake, version.dataset) if v.version <= version.version]
    found = fold(lake, version.dataset, history)
    if digest_of_ids(found) != version.digest:
        raise DataError(
            f"{version.ref} was published with {version.items} items, and {len(found)} that differ are found: "
            "it was erased in part, or the membership table is damaged",
            where=lake.uri("membership"),
            next_command=f"publish a new version of {version.dataset} and use that",
        )
    return sorted(found)


def diff(lake: Lake, a: DatasetVersion, b: DatasetVersion) -> Difference:
    """What b has and a has not, and the other way round."""
    first, second = set(members(lake, a)), set(members(lake, b))
    return Difference(added=tuple(sorted(second - first)), removed=tuple(sorted(first - second)))


def history_of(rows: pa.Table) -> list[DatasetVersion]:
    fields = [name for name in DatasetVersion.model_fields if name != "card"]
    found = [
        DatasetVersion(**{name: row[name] for name in fields}, card=json.loads(row["card"] or "{}"))
        for row in rows.to_pylist()
    ]
    return sorted(found, key=lambda v: (v.dataset, v.version))


def fold(lake: Lake, dataset: str, history: list[DatasetVersion]) -> set[str]:
    """The members after the last version of `history`: each publish adds and removes, in the order of versions.

    Read after `history`, never before: rows of a committed publish were appended before its commit."""
    if not history:
        return set()
    rows = lake.read("membership", ["publish_id", "item_id", "change"], {"dataset": dataset})
    changes: dict[tuple[str, str], list[str]] = defaultdict(list)
    columns = (rows[name].to_pylist() for name in ("publish_id", "change", "item_id"))
    for publish_id, change, item_id in zip(*columns, strict=True):
        changes[publish_id, change].append(item_id)
    held: set[str] = set()
    for version in history:
        held.update(changes[version.publish_id, "added"])
        held.difference_update(changes[version.publish_id, "removed"])
    return held
