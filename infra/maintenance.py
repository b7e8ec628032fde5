"""Housekeeping of the lake: small files become large ones, and what dead processes left is removed.

Safe beside running nights. journal/ is not touched: it has its own owner.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from medgr2.infra.lake import Lake
from medgr2.infra.lake_rows import to_arrow
from medgr2.infra.objects import ObjectStore
from medgr2.infra.objects_folder import FolderStore, stale_temporaries
from medgr2.infra.staging import staged, unstage
from medgr2.infra.versions import claim
from medgr2.schemas.tables import TABLES

GRACE_SECONDS = 24 * 3600.0
RETENTION_HOURS = 7 * 24
"""Data files that no longer count are kept this long for readers that opened an older state."""
ABANDONED_SECONDS = 7 * 24 * 3600.0
"""A training that stood still for so long is not gone on with: its stored checkpoints go."""
SMALL_FILES = 4
"""A table is compacted from this many files on."""


class TableReport(BaseModel):
    model_config = ConfigDict(frozen=True)

    table: str
    files: int
    compacted: int
    vacuumed: int


class CompactReport(BaseModel):
    """What was done or, in a dry run, what would be."""

    model_config = ConfigDict(frozen=True)

    dry_run: bool
    tables: tuple[TableReport, ...]
    abandoned_publishes: tuple[str, ...]
    staging_leftovers: tuple[str, ...]
    stale_files: tuple[str, ...]


def compact(
    lake: Lake,
    store: ObjectStore,
    *,
    dry_run: bool,
    grace_seconds: float = GRACE_SECONDS,
    retention_hours: int = RETENTION_HOURS,
) -> CompactReport:
    abandoned, leftovers = _unfinished(lake, store, time.time() - grace_seconds)
    if not dry_run:
        abandoned = [publish_id for publish_id in abandoned if give_up(lake, publish_id)]
        _delete_rows(lake, abandoned)
        for publish_id in {*abandoned, *leftovers}:
            unstage(store, publish_id)
    reports = [_compact_table(lake, store, name, dry_run, retention_hours) for name in TABLES]
    return CompactReport(
        dry_run=dry_run,
        tables=tuple(r for r in reports if r is not None),
        abandoned_publishes=tuple(abandoned),
        staging_leftovers=tuple(leftovers),
        stale_files=tuple(_remove_stale(lake, store, time.time() - grace_seconds, dry_run)),
    )


def give_up(lake: Lake, publish_id: str) -> bool:
    """Take the claim of an unfinished publish, so that it can never be committed; False if it was by now.

    A publisher that is merely slow finds its claim taken and starts over under another id."""

    def attempt() -> bool:
        with lake.state("versions", write=True) as delta:
            if lake.read_at(delta, "versions", ["publish_id"], {"publish_id": publish_id}).num_rows:
                return False
            if delta.transaction_version(claim(publish_id)) is None:
                lake.commit(delta, to_arrow("versions", []), claims={claim(publish_id): 1})
            return True

    return lake.retry("give up an unfinished publish", attempt)


def _unfinished(lake: Lake, store: ObjectStore, before: float) -> tuple[list[str], list[str]]:
    """Publishes that died, and staging that a finished publish did not live to remove.

    In this order: a running publish is staged before it has rows, and committed before it is unstaged."""
    with_rows = set(lake.read("membership", ["publish_id"])["publish_id"].to_pylist())
    touched = dict(staged(store))
    committed = set(lake.read("versions", ["publish_id"])["publish_id"].to_pylist())
    old = {publish_id for publish_id in with_rows | set(touched) if touched.get(publish_id, 0.0) < before}
    return sorted(old - committed), sorted(old & committed & set(touched))


def _delete_rows(lake: Lake, publish_ids: list[str]) -> None:
    if not publish_ids:
        return
    listed = ", ".join(f"'{publish_id}'" for publish_id in publish_ids)  # hexadecimal digests

    def attempt() -> None:
        with lake.state("membership", write=True) as delta:
            delta.delete(f"publish_id IN ({listed})")

    lake.retry("remove the rows of unfinished publishes", attempt)


def _compact_table(
    lake: Lake, store: ObjectStore, name: str, dry_run: bool, retention_hours: int
) -> TableReport | None:
    def attempt() -> TableReport | None:
        with lake.state(name) as delta:
            if delta is None:
                return None
            files = len(delta.file_uris())
            compacted = files if files >= SMALL_FILES else 0
            if compacted and not dry_run:
                compacted = int(delta.optimize.compact()["numFilesRemoved"])
            # `full` also finds the data files of writers that died before their commit. It lists files that are
            # long gone as well, and even a vacuum of nothing is written to the log: so it is asked first.
            listed = delta.vacuum(retention_hours, dry_run=True, enforce_retention_duration=False, full=True)
            there = {found.key.rpartition("/")[2] for found in store.list(f"lake/{name}/")}
            old = len(there & {path.rpartition("/")[2] for path in listed})
            if old and not dry_run:
                delta.vacuum(retention_hours, dry_run=False, enforce_retention_duration=False, full=True)
            return TableReport(table=name, files=files, compacted=compacted, vacuumed=old)

    return lake.retry(f"compact {name}", attempt)


def _remove_stale(lake: Lake, store: ObjectStore, before: float, dry_run: bool) -> Iterator[str]:
    # What a job on a cluster was asked to do holds private context: it outlives the job by the grace and no longer.
    for found in [*store.list("probe/"), *store.list("requests/")]:
        if found.modified < before:
            yield found.key
            if not dry_run:
                store.delete(found.key)
    for found in store.list("checkpoints/"):
        if found.modified < time.time() - ABANDONED_SECONDS:
            yield found.key
            if not dry_run:
                store.delete(found.key)
    local = list(stale_temporaries(store.root, before)) if isinstance(store, FolderStore) else []
    for path in [*local, *_half_fetched(lake.storage.cache_folder, before)]:
        yield str(path)
        if not dry_run:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _half_fetched(cache: Path, before: float) -> Iterator[Path]:
    for folder in ("images", "lake", "models"):
        for path in sorted((cache / folder).glob("**/.*")):
            if path.exists() and path.stat().st_mtime < before:
                yield path
