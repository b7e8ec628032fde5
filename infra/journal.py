"""The journal: what became of every cell that was ever finished, durable before anybody hears of it.

Segments are immutable objects under journal/<stage>/. Many small ones are merged into one: the merged one is written
first, then its sources are deleted, so that a kill in between leaves the same rows twice, which read as once.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.journal_costs import decode_costs, spent_since, worth_keeping
from medgr2.infra.journal_index import Index
from medgr2.infra.journal_segment import (
    REASONS,
    Clock,
    DamagedError,
    IndexColumns,
    decode,
    decode_columns,
    decode_index,
    decode_rows,
    encode,
    key_words,
    level_of,
    table_of,
)
from medgr2.infra.objects import ObjectInfo, ObjectStore
from medgr2.infra.purse import Spent
from medgr2.schemas.cells import Outcome
from medgr2.schemas.errors import ConflictError, NotFoundError, StorageError, UsageError

ROOT = "journal"
FAN_IN = 32
"""So many segments of one level become one of the next: a cell is rewritten about log32(n) times."""
SETTLED_BYTES = 128 << 10
"""A segment above this is left alone: a merge holds its FAN_IN sources in memory, uncompressed."""
READERS = 8
LISTINGS = 50
_STAGE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Journal:
    """The finished cells of one stage. Any number of processes may append at once."""

    def __init__(self, store: ObjectStore, stage: str) -> None:
        if not _STAGE.fullmatch(stage):
            raise UsageError(f"not a stage name: {stage!r}", next_command="use lower-case letters, digits, - and _")
        self.store = store
        self.stage = stage
        self.prefix = f"{ROOT}/{stage}/"
        self._clock = Clock()
        self._loaded: dict[str, IndexColumns] = {}
        self._index: Index | None = None
        self._damaged: dict[str, str] = {}
        self._lock = threading.Lock()

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Durable on return."""
        if outcomes:
            self._write(table_of(outcomes, self._clock), level=0)

    @property
    def damaged(self) -> tuple[str, ...]:
        """What could not be read so far, each with where it lies: those cells count as not done."""
        return tuple(self._damaged.values())

    def index(self) -> Index:
        """What is finished now. Only segments that this object has not seen are read."""
        with self._lock:
            return self._refresh()

    def outcomes(self, keys: Iterable[str] | None = None) -> dict[str, Outcome]:
        """Finished cells with their values, of these keys or of all; in the order of the keys."""
        wanted = None if keys is None else list(dict.fromkeys(keys))
        with self._lock:
            for _ in range(READERS):
                found = self._values(wanted)
                if found is not None:
                    return found
        raise self._moving()

    def reasons(self, keys: Sequence[str]) -> Counter[str]:
        """How often each reason is given for what became of these cells."""
        with self._lock:
            for _ in range(READERS):
                index, counted = self._refresh(), Counter[str]()
                at = index.find(keys)
                try:
                    for name, rows in index.places(at[at >= 0]).items():
                        read = decode_columns(name, self.store.get(self.prefix + name), [REASONS])
                        told = pc.value_counts(pc.list_flatten(read["reasons"].take(pa.array(rows))))
                        counted.update({pair["values"]: pair["counts"] for pair in told.to_pylist()})
                except NotFoundError:
                    continue
                return counted
        raise self._moving()

    def spent(self, keys: Sequence[str], since: int) -> Spent:
        """What the tries of these cells cost that were told of since then (nanoseconds since the epoch)."""
        with self._lock:
            for _ in range(READERS):
                self._refresh()
                recent = [name for name, held in self._loaded.items() if (held.stamp >= since).any()]
                try:
                    read = [decode_costs(name, self.store.get(self.prefix + name)) for name in recent]
                except NotFoundError:
                    continue
                return spent_since(read, key_words(keys), since)
        raise self._moving()

    def merge(self) -> int:
        """Merge while any level holds enough segments; returns how many segments went away."""
        gone = 0
        while group := self._mergeable():
            gone += self._merge_group(group)
        return gone

    def _write(self, table: pa.Table, level: int) -> None:
        name, data = encode(table, level)
        if not self.store.create(self.prefix + name, data):
            raise StorageError(f"the store says that {name} exists already", where=self.store.uri)

    def _segments(self) -> dict[str, ObjectInfo]:
        return {info.key.removeprefix(self.prefix): info for info in self.store.list(self.prefix)}

    def _segments_while_still(self) -> dict[str, ObjectInfo]:
        """A listing that no merge ran through: one could delete what is listed late and write what was listed early."""
        present = self._segments()
        for _ in range(LISTINGS):
            again = self._segments()
            if all(name in present for name in again if level_of(name)):
                return present
            present = again
        raise self._moving()

    def _mergeable(self) -> list[str]:
        levels: dict[int, list[str]] = {}
        for name, info in self._segments().items():
            level = level_of(name)
            if level is not None and level < 9 and info.size < SETTLED_BYTES and name not in self._damaged:
                levels.setdefault(level, []).append(name)
        return next((names[:FAN_IN] for _, names in sorted(levels.items()) if len(names) >= FAN_IN), [])

    def _merge_group(self, names: list[str]) -> int:
        read: dict[str, tuple[IndexColumns, pa.Table]] = {}
        for name in names:
            try:
                data = self.store.get(self.prefix + name)
                read[name] = decode_index(name, data), decode(name, data)
            except NotFoundError:  # somebody else merged it
                continue
            except DamagedError as e:
                self._note_damage(name, e)
        if read:
            index = Index([(name, columns) for name, (columns, _) in read.items()])
            kept = index.places(index.all_positions())
            table = pa.concat_tables(
                [rows.take(pa.array(worth_keeping(rows, kept.get(name)))) for name, (_, rows) in read.items()]
            )
            level = max(level_of(name) or 0 for name in read)
            self._write(table, level + 1)
            for name in read:
                self.store.delete(self.prefix + name)
        return len(read)

    def _refresh(self) -> Index:
        for _ in range(READERS):
            present = self._segments_while_still()
            unseen = [name for name in present if name not in self._loaded and name not in self._damaged]
            with ThreadPoolExecutor(READERS) as pool:
                read = list(pool.map(self._load, unseen))
            if any(columns is None and name not in self._damaged for name, columns in zip(unseen, read, strict=True)):
                continue  # merged away while we read: its rows are in a segment that a new listing shows
            gone = [name for name in self._loaded if name not in present]
            if unseen or gone or self._index is None:
                for name in gone:
                    del self._loaded[name]
                self._loaded |= {n: c for n, c in zip(unseen, read, strict=True) if c is not None}
                self._index = Index(sorted(self._loaded.items()))
            return self._index
        raise self._moving()

    def _load(self, name: str) -> IndexColumns | None:
        try:
            return decode_index(name, self.store.get(self.prefix + name))
        except NotFoundError:
            return None
        except DamagedError as e:
            self._note_damage(name, e)
            return None

    def _values(self, keys: list[str] | None) -> dict[str, Outcome] | None:
        """None when a segment went away under our feet."""
        index = self._refresh()
        at = index.all_positions() if keys is None else index.find(keys)
        found: dict[str, Outcome] = {}
        for name, rows in index.places(at[at >= 0]).items():
            try:
                found |= {o.key: o for _, o in decode_rows(name, self.store.get(self.prefix + name), rows)}
            except NotFoundError:
                return None
            except DamagedError as e:  # damaged since the index was read
                self._note_damage(name, e)
                self._loaded.pop(name, None)
                self._index = None
        if keys is None:
            return found
        return {key: found[key] for key in keys if key in found}

    def _note_damage(self, name: str, error: DamagedError) -> None:
        self._damaged[name] = f"{error.what} ({self.store.uri}/{self.prefix}{name})"

    def _moving(self) -> ConflictError:
        return ConflictError(
            f"the journal of {self.stage} changed {READERS} times while it was read",
            where=f"{self.store.uri}/{self.prefix}",
            kept="everything in it",
            next_command="run the same command again",
        )
