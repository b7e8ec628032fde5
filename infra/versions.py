"""Dataset versions: a version is a query over `membership`, made visible by one compare-and-set commit.

    stage      the change and a receipt go to staging/publish/<publish_id>.*
    membership the change is appended under its publish_id, once; no reader counts it yet
    versions   one row claims the next number of the dataset and makes the publish_id count: the commit point
    unstage    staging is removed

A kill between any two of these leaves the old version or the new one, and the same call again completes it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from medgr2.infra.lake import Lake
from medgr2.infra.lake_rows import to_arrow
from medgr2.infra.opening import open_store
from medgr2.infra.staging import stage, unstage
from medgr2.schemas.digest import digest_of, digest_of_ids
from medgr2.schemas.errors import DataError, NotFoundError, UsageError
from medgr2.schemas.reports import DatasetVersion

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Difference:
    added: tuple[str, ...]
    removed: tuple[str, ...]


def publish(
    lake: Lake,
    *,
    dataset: str,
    add: Iterable[str],
    remove: Iterable[str] = (),
    card: Mapping[str, object],
    run: str,
) -> DatasetVersion:
    """The version that holds this change. The same change by the same run is the same version, however often
    asked; a change that alters nothing returns the newest version."""
    _check_name(dataset)
    added, removed = sorted(set(add)), sorted(set(remove))
    both = set(added) & set(removed)
    if both:
        raise UsageError(
            f"{len(both)} items are both added and removed; first: {min(both)}", where=f"dataset {dataset}"
        )
    for generation in itertools.count():
        publish_id = digest_of([dataset, added, removed, run, generation])
        change = _Change(lake, dataset, publish_id, added, removed, dict(card), run)
        version = change.settled() or change.carry_out()
        if version is not None:
            return version
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class _Change:
    lake: Lake
    dataset: str
    publish_id: str
    added: list[str]
    removed: list[str]
    card: dict[str, object]
    run: str

    def settled(self) -> DatasetVersion | None:
        """The version, when there is nothing (more) to write."""
        history = versions(self.lake, self.dataset)
        done = next((v for v in history if v.publish_id == self.publish_id), None)
        if done is not None:
            unstage(open_store(self.lake.storage), self.publish_id)
            return done
        if not history:
            if not self.added:
                raise DataError(f"nothing to publish: no item was given and {self.dataset} has no version yet")
            return None
        current = _fold(self.lake, self.dataset, history)
        after = (current | set(self.added)) - set(self.removed)
        return history[-1] if after == current else None

    def carry_out(self) -> DatasetVersion | None:
        """The new version; None when a clean-up gave this publish up in the meantime."""
        images = _images_of(self.lake, self.added, self.dataset)
        _refuse_erased(self.lake, images)
        store = open_store(self.lake.storage)
        rows = to_arrow("membership", [*self._rows(self.added, "added"), *self._rows(self.removed, "removed")])
        stage(store, self.publish_id, rows, dataset=self.dataset, run=self.run)
        self.lake.append("membership", rows, once=claim(self.publish_id))
        # The order matters: an eraser writes its tombstone before it looks for rows. Either it finds the rows
        # appended above, or the check inside `_commit` finds its tombstone.
        version = self.lake.retry(f"publish {self.dataset}", lambda: self._commit(images))
        unstage(store, self.publish_id)
        return version

    def _commit(self, images: Mapping[str, str]) -> DatasetVersion | None:
        with self.lake.state("versions", write=True) as delta:
            return self._commit_on(delta, images)

    def _commit_on(self, delta: Any, images: Mapping[str, str]) -> DatasetVersion | None:
        history = _history(self.lake.read_at(delta, "versions", where={"dataset": self.dataset}))
        done = next((v for v in history if v.publish_id == self.publish_id), None)
        if done is not None:
            return done
        if delta.transaction_version(claim(self.publish_id)) is not None:
            return None
        _refuse_erased(self.lake, images)
        before = _fold(self.lake, self.dataset, history)
        after = (before | set(self.added)) - set(self.removed)
        if history and after == before:
            return history[-1]
        version = DatasetVersion(
            dataset=self.dataset,
            version=history[-1].version + 1 if history else 1,
            publish_id=self.publish_id,
            digest=digest_of_ids(after),
            items=len(after),
            added=len(after - before),
            removed=len(before - after),
            parent=history[-1].version if history else None,
            run=self.run,
            card=self.card,
        )
        row = version.model_dump() | {
            "card": json.dumps(self.card, sort_keys=True, default=str),
            "published_at": datetime.now(UTC),
        }
        claims = {f"version:{self.dataset}": version.version, claim(self.publish_id): 1}
        self.lake.commit(delta, to_arrow("versions", [row]), claims=claims)
        return version

    def _rows(self, ids: list[str], change: str) -> list[dict[str, str]]:
        return [{"publish_id": self.publish_id, "dataset": self.dataset, "item_id": i, "change": change} for i in ids]


def claim(publish_id: str) -> str:
    """The name under which a publish may be committed or given up, whichever comes first, and only once."""
    return f"publish:{publish_id}"


def versions(lake: Lake, dataset: str | None = None) -> list[DatasetVersion]:
    return _history(lake.read("versions", where={"dataset": dataset} if dataset else None))


def resolve(lake: Lake, ref: str) -> DatasetVersion:
    """`ds@42`, `ds@latest`, `ds@tag:x`, or `ds` for its newest."""
    dataset, _, wanted = ref.partition("@")
    _check_name(dataset)
    history = versions(lake, dataset)
    if not history:
        known = sorted({v.dataset for v in versions(lake)})
        raise NotFoundError(
            f"no dataset {dataset}",
            where=lake.storage.root,
            next_command=f"datasets: {', '.join(known)}" if known else "medgr2 refresh  publishes the first version",
        )
    number: int | None = None
    if wanted in ("", "latest"):
        return history[-1]
    if wanted.startswith("tag:"):
        number = tags(lake, dataset).get(wanted.removeprefix("tag:"))
    elif wanted.isdecimal():
        number = int(wanted)
    found = next((v for v in history if v.version == number), None)
    if found is None:
        named = "".join(f", tag:{name}" for name in sorted(tags(lake, dataset)))
        raise NotFoundError(
            f"no version {ref}",
            where=lake.storage.root,
            next_command=f"{dataset} has @{history[0].version} to @{history[-1].version}, @latest{named}",
        )
    return found


def members(lake: Lake, version: DatasetVersion) -> list[str]:
    """The item ids of a version, sorted, and proven to be the ones that were published."""
    history = [v for v in versions(lake, version.dataset) if v.version <= version.version]
    found = _fold(lake, version.dataset, history)
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


def tag(lake: Lake, dataset: str, version: int, name: str) -> None:
    """Name a version; the name moves when it is used already."""
    _check_name(name)
    resolve(lake, f"{dataset}@{version}")

    def attempt() -> None:
        with lake.state("tags", write=True) as delta:
            held = lake.read_at(delta, "tags", where={"dataset": dataset, "tag": name}).to_pylist()
            newest = max(held, key=lambda row: int(row["sequence"]), default=None)
            if newest is not None and newest["version"] == version:
                return
            sequence = int(newest["sequence"]) + 1 if newest else 1
            row = {"dataset": dataset, "tag": name, "version": version, "sequence": sequence}
            data = to_arrow("tags", [row | {"tagged_at": datetime.now(UTC)}])
            lake.commit(delta, data, claims={f"tag:{dataset}:{name}": sequence})

    lake.retry(f"tag {dataset}@{version}", attempt)


def tags(lake: Lake, dataset: str) -> dict[str, int]:
    rows: list[dict[str, Any]] = lake.read("tags", where={"dataset": dataset}).to_pylist()
    return {row["tag"]: row["version"] for row in sorted(rows, key=lambda row: int(row["sequence"]))}


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"not a name: {name[:80]!r}", next_command="use letters, digits, '.', '_' and '-', up to 64")


def _history(rows: pa.Table) -> list[DatasetVersion]:
    fields = [name for name in DatasetVersion.model_fields if name != "card"]
    found = [
        DatasetVersion(**{name: row[name] for name in fields}, card=json.loads(row["card"] or "{}"))
        for row in rows.to_pylist()
    ]
    return sorted(found, key=lambda v: (v.dataset, v.version))


def _fold(lake: Lake, dataset: str, history: list[DatasetVersion]) -> set[str]:
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


def _images_of(lake: Lake, ids: list[str], dataset: str) -> dict[str, str]:
    rows = lake.read("items", ["item_id", "image_id"], {"item_id": ids} if len(ids) < 1000 else None)
    held = dict(zip(rows["item_id"].to_pylist(), rows["image_id"].to_pylist(), strict=True))
    missing = [i for i in ids if i not in held]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(ids)} items to publish are not in the table items; first: {missing[0]}",
            where=f"dataset {dataset}",
            kept="nothing was published",
            next_command="append the items before publishing them",
        )
    return {i: held[i] for i in ids}


def _refuse_erased(lake: Lake, images: Mapping[str, str]) -> None:
    subjects = set(lake.read("erasures", ["subject"], {"kind": ["item", "image"]})["subject"].to_pylist())
    erased = [item for item, image in images.items() if item in subjects or image in subjects]
    if erased:
        raise DataError(
            f"{len(erased)} of the items to publish were erased and may not come back; first: {erased[0]}",
            kept="nothing was published",
            next_command="leave them out and publish again",
        )
