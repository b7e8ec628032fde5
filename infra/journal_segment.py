"""One immutable object of the journal: an Arrow file of finished cells, named by the hash of its bytes."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medgr2.schemas.cells import Outcome
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError
from medgr2.schemas.usage import Usage
from medgr2.schemas.vocabulary import Verdict

SCHEMA = pa.schema(
    [
        ("key", pa.binary(32)),
        ("verdict", pa.int8()),
        ("attempt", pa.int16()),
        ("stamp", pa.int64()),
        ("reasons", pa.list_(pa.string())),
        ("detail", pa.string()),
        ("value", pa.string()),
        ("calls", pa.int32()),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
        ("seconds", pa.float64()),
        ("money", pa.float64()),
    ]
)
"""The last five are the usage: null where nobody counted, absent from segments of older releases."""
INDEX_FIELDS = [0, 1, 2, 3]
"""What an index reads; Arrow does not even decompress the rest."""
KEY, STAMP, REASONS = 0, 3, 4
USAGE_FIELDS = list(range(7, 12))

VERDICTS = (Verdict.ACCEPTED, Verdict.REJECTED, Verdict.FAILED)
FAILED = VERDICTS.index(Verdict.FAILED)
_NUMBER = {verdict: n for n, verdict in enumerate(VERDICTS)}
_VALUES = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
BATCH_ROWS = 4096
NOT_COUNTED = (None,)
KEY_LENGTH = 64
_HEX = re.compile(r"[0-9a-f]*")
_NAME = re.compile(r"(\d)-[0-9a-f]{16}-[0-9a-f]{12}-([0-9a-f]{32})\.arrow")


class DamagedError(DataError):
    """A segment is not what its name says. Its cells count as never done; the others are untouched."""


@dataclass(frozen=True, slots=True)
class IndexColumns:
    """The columns of a segment that are held in memory: 43 bytes a cell."""

    keys: npt.NDArray[np.uint64]
    """(n, 4): the 32 bytes of each key as big-endian words, so that words sort as keys do."""
    verdict: npt.NDArray[np.int8]
    attempt: npt.NDArray[np.int16]
    stamp: npt.NDArray[np.int64]


def key_words(keys: Sequence[str]) -> npt.NDArray[np.uint64]:
    joined = "".join(keys)
    if not _HEX.fullmatch(joined) or not set(map(len, keys)) <= {KEY_LENGTH}:
        bad = next(key for key in keys if len(key) != KEY_LENGTH or not _HEX.fullmatch(key))
        raise DataError(f"not a cell key: {bad[:80]!r}", next_command="make cells with Recipe.cell")
    return np.frombuffer(bytes.fromhex(joined), dtype=">u8").reshape(-1, 4).astype(np.uint64)


class Clock:
    """Nanoseconds that never repeat in one writer: of two final outcomes of a cell the first written one holds."""

    def __init__(self) -> None:
        self._last = 0

    def stamps(self, n: int) -> range:
        start = max(time.time_ns(), self._last + 1)
        self._last = start + n - 1
        return range(start, start + n)


def table_of(outcomes: Sequence[Outcome], clock: Clock) -> pa.Table:
    words = key_words([o.key for o in outcomes])
    keys = pa.Array.from_buffers(pa.binary(32), len(outcomes), [None, pa.py_buffer(words.astype(">u8").tobytes())])
    return pa.table(
        [
            keys,
            pa.array([_NUMBER[o.verdict] for o in outcomes], pa.int8()),
            pa.array([o.attempt for o in outcomes], pa.int16()),
            pa.array(clock.stamps(len(outcomes)), pa.int64()),
            pa.array([list(o.reasons) for o in outcomes], pa.list_(pa.string())),
            pa.array([o.detail for o in outcomes], pa.string()),
            pa.array([None if o.value is None else value_text(o.value) for o in outcomes], pa.string()),
            *_usage_columns([o.usage for o in outcomes]),
        ],
        schema=SCHEMA,
    )


def _usage_columns(used: Sequence[Usage | None]) -> list[pa.Array]:
    fields = [SCHEMA.field(n) for n in USAGE_FIELDS]
    if not any(used):
        return [pa.nulls(len(used), field.type) for field in fields]
    return [pa.array([u and getattr(u, field.name) for u in used], field.type) for field in fields]


def value_text(value: object) -> str:
    return _VALUES.encode(value)


def encode(table: pa.Table, level: int) -> tuple[str, bytes]:
    """The name and the bytes. Groups are small and many (lz4 starts faster), merged segments long-lived (zstd)."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if level else "lz4")
    with pa.ipc.new_file(sink, SCHEMA, options=options) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=BATCH_ROWS)
    data: bytes = sink.getvalue().to_pybytes()
    return f"{level}-{time.time_ns():016x}-{uuid.uuid4().hex[:12]}-{sha256_hex(data)[:32]}.arrow", data


def level_of(name: str) -> int | None:
    """None for an object that the journal did not write."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def _open(name: str, data: bytes, fields: list[int] | None) -> pa.ipc.RecordBatchFileReader:
    match = _NAME.fullmatch(name)
    if match is None or sha256_hex(data)[:32] != match[2]:
        raise DamagedError(f"journal segment {name} is damaged: {len(data)} bytes that do not match its name")
    if fields is None:
        return pa.ipc.open_file(pa.BufferReader(data))
    held = len(pa.ipc.open_file(pa.BufferReader(data)).schema)
    options = pa.ipc.IpcReadOptions(included_fields=[n for n in fields if n < held])
    return pa.ipc.open_file(pa.BufferReader(data), options=options)


def decode(name: str, data: bytes) -> pa.Table:
    """All of it, with every column of today."""
    table = _open(name, data, None).read_all()
    for field in list(SCHEMA)[table.num_columns :]:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table


def decode_columns(name: str, data: bytes, fields: list[int]) -> pa.Table:
    """A few columns of all rows; those of the usage are missing from segments of older releases."""
    return _open(name, data, fields).read_all()


def decode_index(name: str, data: bytes) -> IndexColumns:
    table = _open(name, data, INDEX_FIELDS).read_all().combine_chunks()
    n = table.num_rows
    if n == 0:
        raise DamagedError(f"journal segment {name} holds no rows")
    keys = table["key"].chunk(0)
    words = np.frombuffer(keys.buffers()[1], dtype=">u8", count=4 * n, offset=32 * keys.offset).reshape(-1, 4)
    return IndexColumns(
        words.astype(np.uint64),
        table["verdict"].to_numpy().copy(),
        table["attempt"].to_numpy().copy(),
        table["stamp"].to_numpy().copy(),
    )


def decode_rows(name: str, data: bytes, rows: npt.NDArray[np.int64]) -> Iterable[tuple[int, Outcome]]:
    """The outcomes at these ascending rows; only the record batches that hold them are decompressed."""
    reader = _open(name, data, None)
    for b in range(reader.num_record_batches):
        first = b * BATCH_ROWS
        wanted = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + BATCH_ROWS)]
        if not len(wanted):
            continue
        batch = reader.get_batch(b).take(pa.array(wanted - first))
        columns = [column.to_pylist() for column in batch.columns]
        used = zip(*columns[7:], strict=True) if len(columns) > 7 else repeat(NOT_COUNTED, len(wanted))
        for row, key, verdict, attempt, _, reasons, detail, value, usage in zip(
            wanted.tolist(), *columns[:7], used, strict=True
        ):
            yield (
                row,
                Outcome(
                    key=key.hex(),
                    verdict=VERDICTS[verdict],
                    value=None if value is None else json.loads(value),
                    reasons=tuple(reasons),
                    detail=detail,
                    attempt=attempt,
                    usage=None if usage[0] is None else Usage(*usage),
                ),
            )
