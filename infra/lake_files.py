"""Reading of a table's data files. A night leaves many tiny ones, and on S3 each costs several requests; as a
data file never changes, the tiny ones are kept in memory and only new ones are fetched."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

SMALL_BYTES = 32_000
KEPT_FILES = 4000


class SmallFiles:
    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], pa.Table] = OrderedDict()

    def table(self, delta: Any, schema: pa.Schema, columns: list[str], where: Any | None) -> pa.Table:
        """The rows of this state of the table; a column that a file lacks is null there."""
        dataset, sizes = delta.to_pyarrow_dataset(), _sizes(delta)
        small, large = [schema.empty_table()], []
        for path in dataset.files:
            fragment = dataset.format.make_fragment(path, dataset.filesystem)
            if sizes.get(path.rpartition("/")[2], SMALL_BYTES) < SMALL_BYTES:
                small.append(self._small(delta.table_uri, fragment, schema))
            elif _has_views(fragment.physical_schema):
                small.append(fragment.to_table(schema=schema))
            else:
                large.append(fragment)
        held = pa.concat_tables(small)
        held = (held if where is None else held.filter(where)).select(columns)
        if not large:
            return held
        rest = pads.FileSystemDataset(large, schema, dataset.format, dataset.filesystem)
        return pa.concat_tables([held, rest.to_table(columns=columns, filter=where)])

    def _small(self, uri: str, fragment: Any, schema: pa.Schema) -> pa.Table:
        name = (uri, fragment.path, *schema.names)
        found = self._kept.get(name)
        if found is None:
            found = self._kept[name] = fragment.to_table(schema=schema)
            while len(self._kept) > KEPT_FILES:
                self._kept.popitem(last=False)
        return found


def dataset_of(files: Sequence[str], schema: pa.Schema) -> Any:
    """Local data files of a table as one Arrow dataset with the declared columns, whatever their age."""
    views = [file for file in files if _has_views(pq.read_schema(file))]
    plain = pads.dataset([file for file in files if file not in views], schema=schema, format="parquet")
    if not views:
        return plain
    held = [pads.dataset(file, schema=schema, format="parquet").to_table() for file in views]
    return pads.dataset([plain, pads.dataset(pa.concat_tables(held))])


def _has_views(schema: pa.Schema) -> bool:
    """The DELETE of delta-rs writes string views, and Arrow 26 cannot filter a file of those: it has no kernel that
    compares them with strings. Such a file is read whole, until a compaction rewrites it."""
    return any("view" in str(field.type) for field in schema)


def _sizes(delta: Any) -> dict[str, int]:
    actions = pa.table(delta.get_add_actions(flatten=True))
    names = actions["path"].to_pylist()
    return {n.rpartition("/")[2]: size for n, size in zip(names, actions["size_bytes"].to_pylist(), strict=True)}
