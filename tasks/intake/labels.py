"""Labels: what a table says of each file. A million rows stay in Arrow: never a Python object a row at rest."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self
from unicodedata import normalize

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import DataError
from medgr2.tasks.intake.columns import NOTHING, Columns
from medgr2.tasks.intake.label_files import LabelFile, open_labels
from medgr2.tasks.intake.label_rows import BETWEEN_NAMES, INTERNAL, TEXTS, Hashed, cleaned

CODE = "3"
"""Part of every digest: raise it when the same file would be understood otherwise."""
SCHEMA = pa.schema(
    [("file", pa.string()), ("known", pa.bool_()), *((name, pa.string()) for name in (*TEXTS, "problem"))]
)
FEW = 2000
"""So many files are looked up one by one; for more it is cheaper to build a hash table of all rows."""


class Labels:
    """One row a file, sorted by file."""

    def __init__(self, rows: pa.Table, digest: str, left_out: tuple[str, ...] = ()) -> None:
        self._rows = rows
        self.digest = digest
        self.left_out = left_out
        """Columns that were neither mapped nor kept: nothing of them came in."""

    @classmethod
    def none(cls) -> Self:
        """For pictures that come without labels."""
        return cls(_internal([]), digest_of([CODE]))

    @classmethod
    def build(
        cls, batches: Iterable[pa.RecordBatch], folder: Path, kept: Sequence[str], hashed: Hashed, digest: str,
        left_out: tuple[str, ...] = (),
    ) -> Self:  # fmt: skip
        """From batches of text under our own names; `kept` are the further columns."""
        return cls(_one_a_file(_internal([cleaned(one, folder, kept, hashed) for one in batches])), digest, left_out)

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def of(self, files: Sequence[str]) -> pa.Table:
        """A row for each of the files, in their order; `known` is false where there is none."""
        asked = pa.array(map(_composed, files), pa.string())
        at = self._at(asked)
        rows = self._rows.select([name for name in self._rows.schema.names if name in SCHEMA.names]).take(at)
        columns = {name: rows[name].cast(pa.string()) for name in rows.schema.names}
        columns |= {"file": pa.array(map(_written, files), pa.string()), "known": at.is_valid()}
        return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    def persons(self, files: Sequence[str]) -> list[tuple[str, ...]]:
        """How the labels call each file's patient, raw, where they bring a report: never to be stored or told."""
        at = self._at(pa.array(map(_composed, files), pa.string()))
        persons = self._rows["persons"].take(at).cast(pa.string()).to_pylist()
        return [tuple(sorted(set(text.split(BETWEEN_NAMES)))) if text else () for text in persons]

    def unused(self, files_seen: Iterable[str]) -> int:
        """How many files the labels speak of that are not among those seen."""
        seen = pa.array(map(_composed, files_seen), pa.string())
        return len(self) - int(pc.sum(pc.is_in(self._rows["file"].cast(pa.string()), value_set=seen)).as_py() or 0)

    def problems(self) -> Counter[str]:
        """How many files may not come in because of what their labels say, by reason; found or not."""
        counts = pc.value_counts(self._rows["problem"].drop_null()).to_pylist()
        return Counter({one["values"]: one["counts"] for one in counts})

    def _at(self, asked: pa.Array) -> pa.Array:
        files = self._rows["file"]
        if len(asked) > FEW:
            return pc.index_in(asked, value_set=files.cast(pa.string()))
        return pa.array([self._one(file) for file in asked.to_pylist()], pa.int32())

    def _one(self, file: str) -> int | None:
        files = self._rows["file"]
        at = bisect_left(range(len(files)), file, key=lambda n: files[n].as_py())
        return at if at < len(files) and files[at].as_py() == file else None


def read_labels(path: Path, columns: Columns, hashed: Hashed) -> Labels:
    """`hashed(source, id)` makes the key of a patient or a group: no id is kept as it stands."""
    file = open_labels(path)
    chosen = columns.choose(file.names, str(path))
    naming = chosen.naming if "report" in chosen.taken else ()
    theirs = list(dict.fromkeys([*chosen.taken.values(), *naming]))

    def renamed() -> Iterable[pa.RecordBatch]:
        row = 0
        for batch in file.batches(theirs):
            columns = {our: batch.column(their) for our, their in chosen.taken.items()}
            if naming:
                columns["patient_name"] = _together([batch.column(their) for their in naming])
            ours = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
            yield _named(ours, file, row)
            row += batch.num_rows

    digest = digest_of([CODE, file.digest, chosen.taken, chosen.kept, naming])
    labels = Labels.build(renamed(), path.absolute().parent, chosen.kept, hashed, digest, chosen.left_out)
    if not len(labels):
        raise DataError("the labels name no file", where=str(path), kept=NOTHING)
    return labels


def _together(names: Sequence[pa.Array]) -> pa.Array:
    """The parts of a name, each to be looked for on its own."""
    return pc.binary_join_element_wise(*(pc.fill_null(name, "") for name in names), BETWEEN_NAMES)


def _written(file: str) -> str:
    """A name on disk need not be text: its odd bytes become '?', and no label is about such a file."""
    return file.encode("utf-8", "replace").decode()


def _composed(file: str) -> str:
    return normalize("NFC", _written(file))


def _named(batch: pa.RecordBatch, file: LabelFile, start: int) -> pa.RecordBatch:
    """Without rows that say nothing at all. A row that says something must say of which file."""
    empty = [pc.equal(pc.utf8_trim_whitespace(pc.fill_null(column, "")), "") for column in batch.columns]
    nothing = empty[0]
    for one in empty[1:]:
        nothing = pc.and_(nothing, one)
    lost = pc.and_not(empty[batch.schema.get_field_index("file")], nothing)
    if (first := pc.index(lost, True).as_py()) >= 0:
        raise DataError("a label without a file name", where=file.place(start + first), kept=NOTHING)
    return batch.filter(pc.invert(nothing))


def _internal(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches, INTERNAL).unify_dictionaries().combine_chunks()


def _one_a_file(rows: pa.Table) -> pa.Table:
    """Sorted by file. Rows that say the same of one file are one; rows that do not are a problem of that file."""
    if rows.num_rows < 2:
        return rows
    file = rows["file"].combine_chunks()
    if pc.any(pc.less(file[1:], file[:-1])).as_py():
        rows = rows.take(pc.sort_indices(file))
        file = rows["file"].combine_chunks()
    again = pc.equal(file[1:], file[:-1])
    if not pc.any(again).as_py():
        return rows
    at = pc.indices_nonzero(again)
    later, earlier = rows.take(pc.add(at, 1)), rows.take(at)
    other = pa.array([False] * len(at))
    for name in (*TEXTS, "problem"):  # two spellings of a name are no contradiction
        a, b = later[name].cast(pa.large_string()), earlier[name].cast(pa.large_string())
        same = pc.or_(pc.equal(a, b).fill_null(False), pc.and_(a.is_null(), b.is_null()))
        other = pc.or_(other, pc.invert(same))
    contradicted = later["file"].filter(other).unique()
    first = rows.filter(pa.chunked_array([pa.array([True]), pc.invert(again)]))
    torn = pc.is_in(first["file"], value_set=contradicted)
    own = first["problem"].cast(pa.string())
    problem = pc.if_else(torn, pc.coalesce(own, "two_labels"), own).dictionary_encode()
    first = first.set_column(first.schema.get_field_index("problem"), "problem", problem)
    persons = _all_persons(first, later).dictionary_encode()
    return first.set_column(first.schema.get_field_index("persons"), "persons", persons).combine_chunks()


def _all_persons(first: pa.Table, later: pa.Table) -> pa.ChunkedArray:
    """Every spelling that any row of a file has."""
    own = first["persons"].cast(pa.string())
    told = later.select(["file", "persons"]).filter(later["persons"].is_valid())
    more = pa.table({"file": told["file"], "persons": told["persons"].cast(pa.string())})
    more = more.group_by("file", use_threads=False).aggregate([("persons", "distinct")])
    joined = pc.binary_join(more["persons_distinct"], BETWEEN_NAMES)
    also = joined.take(pc.index_in(first["file"], value_set=more["file"].combine_chunks()))
    return pc.binary_join_element_wise(pc.fill_null(own, ""), also, BETWEEN_NAMES, null_handling="skip")
