"""What the tries of cells cost, as the journal tells it: of a cell that was tried twice, both tries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.journal_segment import KEY, STAMP, USAGE_FIELDS, decode_columns
from medgr2.infra.purse import Spent
from medgr2.schemas.usage import Usage


def decode_costs(name: str, data: bytes) -> pa.Table | None:
    """Key, stamp and usage of the tries of a segment that somebody counted; None where there are none."""
    table = decode_columns(name, data, [KEY, STAMP, *USAGE_FIELDS])
    if "calls" not in table.column_names:
        return None
    return table.filter(pc.is_valid(table["calls"]))


def worth_keeping(table: pa.Table, standing: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    """The rows of a segment that a merge may not drop: those that stand, and older tries that were paid for."""
    paid = np.flatnonzero(pc.is_valid(table["calls"]).to_numpy())
    return paid if standing is None else np.union1d(standing, paid)


def spent_since(tables: Sequence[pa.Table | None], keys: npt.NDArray[np.uint64], since: int) -> Spent:
    """Of these cells. A merge that was killed leaves the same try in two segments: it counts once."""
    filled = [table for table in tables if table is not None and table.num_rows]
    if not filled:
        return Spent()
    costs = pa.concat_tables(filled)
    asked = pa.Array.from_buffers(pa.binary(32), len(keys), [None, pa.py_buffer(keys.astype(">u8").tobytes())])
    costs = costs.filter(pc.and_(pc.greater_equal(costs["stamp"], since), pc.is_in(costs["key"], value_set=asked)))
    each = [(name, "max") for name in ("calls", "tokens_in", "tokens_out", "seconds", "money")]
    costs = costs.group_by(["key", "stamp"]).aggregate(each)
    if not costs.num_rows:
        return Spent()
    columns = [costs[f"{name}_max"] for name, _ in each]
    return Spent(
        Usage(*(pc.sum(column).as_py() for column in columns)), Usage(*(pc.max(column).as_py() for column in columns))
    )
