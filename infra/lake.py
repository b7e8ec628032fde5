"""The lake: Delta tables under <root>/lake, created on first use, appended to exactly once, evolved in place.

Nothing here ever writes a deletion vector, so the data files of a table are its rows.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.lake_files import SmallFiles
from medgr2.infra.lake_rows import Rows, Where, declared_table, expression, first_of_each, listed, to_arrow
from medgr2.infra.lake_tables import evolved, make_table, open_table, s3_options
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import NO_SPACE, ConflictError, StorageError, UsageError, after_a_full_disk, says_full

DEADLINE_SECONDS = 120.0
ROW_GROUP = 16_384
"""Rows that are written, and later read, together: a writer holds no more of them in memory."""
T = TypeVar("T")


class Amendment(NamedTuple):
    replaces: bool
    """Whether any of the rows takes the place of one that is held."""
    parts: Iterable[Rows]


class Lake:
    def __init__(self, storage: StorageSettings) -> None:
        self.storage = storage
        self._options = s3_options(storage)
        self._small_files = SmallFiles()
        self._idle: dict[str, list[Any]] = defaultdict(list)

    def __reduce__(self) -> tuple[type[Lake], tuple[StorageSettings]]:
        return (Lake, (self.storage,))  # to a worker goes the address, never an open table

    def append(self, table: str, rows: Rows, *, once: str) -> bool:
        """Append all rows under the name `once`; False, and nothing written, when that name was used before."""
        if not once:
            raise UsageError("append needs a name for `once`", where=f"table {table}")
        data = to_arrow(table, rows)
        if data.num_rows == 0:
            return False

        def attempt() -> bool:
            with self.state(table, write=True) as delta:
                if delta.transaction_version(once) is not None:
                    return False
                self.commit(delta, data, claims={once: 1})
                return True

        return self.retry(f"append to {table}", attempt)

    def append_new(self, table: str, rows: Rows, *, key: str) -> int:
        """Append the rows whose key the table does not hold yet, the first of each; how many that were."""
        data = first_of_each(to_arrow(table, rows), key)
        if data.num_rows == 0:
            return 0

        few = pc.field(key).isin(data[key]) if data.num_rows < 1000 else None

        def attempt() -> int:
            with self.state(table, write=True) as delta:
                held = self.read_at(delta, table, [key], few)
                new = data.filter(pc.invert(pc.is_in(data[key], value_set=held[key])))
                if new.num_rows:
                    # Whoever commits to this table in between makes this fail: its rows were not looked at.
                    self.commit(delta, new, strict=True)
                return int(new.num_rows)

        return self.retry(f"append to {table}", attempt)

    def amend(
        self, table: str, make: Callable[[pa.Table], Amendment], *, key: str, columns: Sequence[str] | None = None
    ) -> None:
        """Write the rows that `make` makes of all that the table holds: a row whose key is there replaces the old
        one. One commit; when anybody committed in between, the rows are made again from what is there then."""

        def attempt() -> None:
            with self.state(table, write=True) as delta:
                replaces, parts = make(self.read_at(delta, table, columns))
                rows = _stream(table, parts)
                if rows is None:
                    return
                if replaces:
                    self._merge(delta, rows.read_all(), key)
                else:
                    self.commit(delta, rows, strict=True)

        self.retry(f"amend {table}", attempt)

    def _merge(self, delta: Any, data: pa.Table, key: str) -> None:
        from deltalake import CommitProperties

        merge = delta.merge(
            data,
            predicate=f"held.{key} = new.{key}",
            source_alias="new",
            target_alias="held",
            commit_properties=CommitProperties(max_commit_retries=0),
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def read(self, table: str, columns: Sequence[str] | None = None, where: Where | None = None) -> pa.Table:
        def attempt() -> pa.Table:
            with self.state(table) as delta:
                return self.read_at(delta, table, columns, where)

        return self.retry(f"read {table}", attempt)

    def files(self, table: str) -> list[str]:
        """The data files of the table as it is now: paths, or s3:// addresses."""

        def attempt() -> list[str]:
            with self.state(table) as delta:
                return sorted(uri.removeprefix("file://") for uri in delta.file_uris()) if delta else []

        return self.retry(f"read {table}", attempt)

    def version(self, table: str) -> int:
        """Grows with every commit; -1 before the first."""

        def attempt() -> int:
            with self.state(table) as delta:
                return -1 if delta is None else int(delta.version())

        return self.retry(f"read {table}", attempt)

    def uri(self, table: str) -> str:
        return f"{self.storage.root}/lake/{declared_table(table).name}"

    @contextlib.contextmanager
    def state(self, table: str, *, write: bool = False) -> Iterator[Any]:
        """The table at its newest version; to read, None before its first row; to write, made and brought up to
        its declared schema. Lent to one at a time: if it moved on between a read and a commit, the commit would
        overlook what came in between."""
        from deltalake.exceptions import DeltaError

        declared, idle = declared_table(table), self._idle[table]
        delta = idle.pop() if idle else None
        try:
            if delta is not None:
                delta.update_incremental()  # a few requests, where opening takes dozens
        except (DeltaError, OSError):
            delta = None
        delta = delta or open_table(self.uri(table), self._options)
        if write:
            delta = evolved(delta or make_table(self.uri(table), declared, self._options), declared)
        yield delta
        if delta is not None:
            idle.append(delta)

    def commit(
        self,
        delta: Any,
        data: pa.Table | pa.RecordBatchReader,
        *,
        claims: Mapping[str, int] | None = None,
        strict: bool = False,
    ) -> None:
        """One commit on top of exactly this state: each claim is refused if anybody claimed that name since;
        strict refuses if anybody committed anything since. A refusal is a CommitFailedError; see `retry`."""
        from deltalake import CommitProperties, Transaction, WriterProperties, write_deltalake

        names = {f.name for f in delta.schema().fields}
        if missing := sorted(names - set(data.schema.names)):
            data = data if isinstance(data, pa.Table) else data.read_all()
        for extra in missing:  # a newer release added it
            field = pa.schema(delta.schema().to_arrow()).field(extra)
            data = data.append_column(field, pa.nulls(data.num_rows, field.type))
        write_deltalake(
            delta,
            data,
            mode="append",
            writer_properties=WriterProperties(max_row_group_size=ROW_GROUP),
            commit_properties=CommitProperties(
                app_transactions=[Transaction(name, number) for name, number in (claims or {}).items()],
                max_commit_retries=0 if strict else None,
            ),
        )

    def retry(self, doing: str, attempt: Callable[[], T], deadline_seconds: float = DEADLINE_SECONDS) -> T:
        """Optimistic concurrency: again from the newest state whenever somebody else committed first."""
        from deltalake.exceptions import CommitFailedError, DeltaError

        deadline, pause = time.monotonic() + deadline_seconds, 0.01
        while True:
            try:
                with _plain_errors(self.storage.root):
                    return attempt()
            except (CommitFailedError, DeltaError) as e:
                if not isinstance(e, CommitFailedError) and "already exists" not in str(e):
                    raise StorageError(
                        f"cannot {doing}: {_first_line(e)}",
                        where=f"{self.storage.root}/lake",
                        kept="every commit made before",
                        next_command=after_a_full_disk(e, "medgr2 doctor"),
                    ) from None
                if time.monotonic() > deadline:
                    raise ConflictError(
                        f"could not {doing}: others kept committing first for {deadline_seconds:.0f} s",
                        where=f"{self.storage.root}/lake",
                        kept="every commit made before; this one was not written",
                        next_command="run the same command again when fewer writers are active",
                    ) from None
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 1.6, 0.5)

    def read_at(
        self, delta: Any | None, table: str, columns: Sequence[str] | None = None, where: Where | None = None
    ) -> pa.Table:
        """The rows as this opened state of the table has them."""
        schema = declared_table(table).schema
        for name in columns or ():
            if name not in schema.names:
                raise UsageError(f"table {table} has no column {name}", next_command=f"columns: {listed(schema)}")
        filter_ = expression(where, schema)
        if delta is None:
            return schema.empty_table().select(list(columns) if columns else schema.names)
        with _plain_errors(self.storage.root):
            return self._small_files.table(delta, schema, list(columns) if columns else schema.names, filter_)


def _stream(table: str, parts: Iterable[Rows]) -> pa.RecordBatchReader | None:
    """The parts as they come, so that no more than one of them is in memory; None where there is no row."""
    filled = (data for part in parts if (data := to_arrow(table, part)).num_rows)
    first = next(filled, None)
    if first is None:
        return None
    batches = (batch for data in chain([first], filled) for batch in data.to_batches())
    return pa.RecordBatchReader.from_batches(first.schema, batches)


def _first_line(e: Exception) -> str:
    if says_full(e):  # said last, below the words of three libraries
        return NO_SPACE
    return str(e).splitlines()[0][:300] if str(e) else type(e).__name__


@contextlib.contextmanager
def _plain_errors(root: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:  # pyarrow's and delta-rs' word for whatever the store answered
        raise StorageError(
            f"cannot read or write the lake: {_first_line(e)}",
            where=f"{root}/lake",
            kept="every commit made before",
            next_command=after_a_full_disk(e, "medgr2 doctor"),
        ) from None
