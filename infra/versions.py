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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.infra.lake_rows import to_arrow
from medgr2.infra.opening import open_store
from medgr2.infra.staging import stage, unstage
from medgr2.infra.version_history import Difference, diff, fold, history_of, members, versions
from medgr2.schemas.digest import digest_of, digest_of_ids
from medgr2.schemas.errors import DataError, NotFoundError, UsageError
from medgr2.schemas.reports import DatasetVersion

__all__ = ["Difference", "claim", "diff", "members", "publish", "resolve", "tag", "tags", "versions"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def publish(
    lake: Lake,
    *,
    dataset: str,
    add: Iterable[str],
    remove: Iterable[str] = (),
    given_away: Iterable[str] = (),
    card: Mapping[str, object],
    run: str,
    not_before: datetime | None = None,
) -> DatasetVersion:
    """The version that holds this change. The same change by the same run is the same version, however often
    asked, until another publish takes it back: then it is made again. A change that alters nothing returns the newest
    version. `given_away` are items that are left out because they tell their keys: it is kept, and changes no member.
    `not_before` is a time that the version may not be older than, whatever the clock of this host says."""
    _check_name(dataset)
    added, removed, told = sorted(set(add)), sorted(set(remove)), sorted(set(given_away))
    both = set(added) & set(removed)
    if both:
        raise UsageError(
            f"{len(both)} items are both added and removed; first: {min(both)}", where=f"dataset {dataset}"
        )
    done: DatasetVersion | None = None
    for generation in itertools.count():
        publish_id = digest_of([dataset, added, removed, run, generation, *([told] if told else [])])
        change = _Change(lake, dataset, publish_id, added, removed, told, dict(card), run, not_before)
        history = versions(lake, dataset)
        if before := change.found_in(history):
            unstage(open_store(lake.storage), publish_id)
            done = before
        elif not change.alters(history):
            return done or history[-1]
        elif version := change.carry_out():
            return version
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class _Change:
    lake: Lake
    dataset: str
    publish_id: str
    added: list[str]
    removed: list[str]
    given_away: list[str]
    card: dict[str, object]
    run: str
    not_before: datetime | None

    def found_in(self, history: Sequence[DatasetVersion]) -> DatasetVersion | None:
        return next((v for v in history if v.publish_id == self.publish_id), None)

    def alters(self, history: list[DatasetVersion]) -> bool:
        if not history:
            if not self.added:
                raise DataError(f"nothing to publish: no item was given and {self.dataset} has no version yet")
            return True
        current = fold(self.lake, self.dataset, history)
        return (current | set(self.added)) - set(self.removed) != current

    def carry_out(self) -> DatasetVersion | None:
        """The new version; None when a clean-up gave this publish up in the meantime."""
        images = _images_of(self.lake, self.added, self.dataset)
        _refuse_erased(self.lake, images)
        store = open_store(self.lake.storage)
        changes = {"added": self.added, "removed": self.removed, "given_away": self.given_away}
        rows = to_arrow("membership", [row for change, ids in changes.items() for row in self._rows(ids, change)])
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
        rows = self.lake.read_at(delta, "versions", where={"dataset": self.dataset})
        history = history_of(rows)
        done = self.found_in(history)
        if done is not None:
            return done
        if delta.transaction_version(claim(self.publish_id)) is not None:
            return None
        _refuse_erased(self.lake, images)
        before = fold(self.lake, self.dataset, history)
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
            # Hosts' clocks differ: what a version holds was there before it, and so was its parent.
            "published_at": max(filter(None, [datetime.now(UTC), self.not_before, *rows["published_at"].to_pylist()])),
        }
        claims = {f"version:{self.dataset}": version.version, claim(self.publish_id): 1}
        self.lake.commit(delta, to_arrow("versions", [row]), claims=claims)
        return version

    def _rows(self, ids: list[str], change: str) -> list[dict[str, str]]:
        return [{"publish_id": self.publish_id, "dataset": self.dataset, "item_id": i, "change": change} for i in ids]


def claim(publish_id: str) -> str:
    """The name under which a publish may be committed or given up, whichever comes first, and only once."""
    return f"publish:{publish_id}"


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
