"""Rows on their way into and out of a table: its declared columns, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.schemas.errors import DataError, UsageError
from medgr2.schemas.tables import TABLES, Table

Rows: TypeAlias = pa.Table | Sequence[Mapping[str, Any]]
Where: TypeAlias = pc.Expression | Mapping[str, Any]
"""An Arrow expression, or {column: value} and {column: [one, of, these]}, all of which must hold."""


def to_arrow(table: str, rows: Rows) -> pa.Table:
    """Rows with exactly the declared columns and types; missing columns are null, unknown ones are refused."""
    schema = declared_table(table).schema
    names = rows.column_names if isinstance(rows, pa.Table) else sorted({name for row in rows for name in row})
    unknown = [name for name in names if name not in schema.names]
    if unknown:
        raise DataError(f"table {table} has no column {', '.join(unknown)}", where=f"columns: {listed(schema)}")
    columns = []
    for field in schema:
        try:
            if not isinstance(rows, pa.Table):
                columns.append(pa.array([row.get(field.name) for row in rows], field.type))
            elif field.name in names:
                columns.append(rows[field.name].cast(field.type))
            else:
                columns.append(pa.nulls(rows.num_rows, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as e:
            # The message of Arrow quotes the value, which may be a patient's.
            raise DataError(
                f"column {field.name} takes {field.type}: {type(e).__name__}", where=f"table {table}"
            ) from None
    return pa.table(columns, schema=schema)


def declared_table(table: str) -> Table:
    if table not in TABLES:
        raise UsageError(f"no table {table}", next_command=f"tables: {', '.join(sorted(TABLES))}")
    return TABLES[table]


def first_of_each(data: pa.Table, key: str) -> pa.Table:
    seen: set[Any] = set()
    keep = []
    for value in data[key].to_pylist():
        if value is None:
            raise DataError(f"a row has no {key}")
        keep.append(value not in seen)
        seen.add(value)
    return data.filter(pa.array(keep, pa.bool_()))


def expression(where: Where | None, schema: pa.Schema) -> Any:
    if where is None or isinstance(where, pc.Expression):
        return where
    whole = None
    for name, value in where.items():
        if name not in schema.names:
            raise UsageError(f"no column {name}", next_command=f"columns: {listed(schema)}")
        many = isinstance(value, list | tuple | set | frozenset)
        one = pc.field(name).isin(pa.array(value, schema.field(name).type)) if many else pc.field(name) == value
        whole = one if whole is None else whole & one
    return whole


def listed(schema: pa.Schema) -> str:
    return ", ".join(schema.names)
