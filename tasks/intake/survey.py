"""The survey: what a source holds now, and what of it is known already. Nothing is read but names, sizes and times."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from os.path import splitext

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.lake import Lake
from medgr2.infra.sources import Source, SourceFile
from medgr2.schemas.cells import Recipe
from medgr2.schemas.reports import Plan
from medgr2.schemas.vocabulary import Verdict

SIDECARS = frozenset({".csv", ".tsv", ".json", ".jsonl", ".parquet", ".md", ".txt", ".xlsx", ".yaml", ".yml"})
"""Files that lie beside pictures and are none. Everything else has to be accounted for."""
WINDOW = 4096
"""So many files are read, journalled and let go at a time: memory does not grow with the source."""
LEDGER = ("file_id", "size", "stamp", "content", "verdict", "reason", "detail", "images", "found", "facts", "seen_at")


class Survey:
    """The files of a source in a fixed order, each with its keyed name, and what an earlier run noted of them."""

    def __init__(self, source: Source, hashed: Callable[[str, str], str]) -> None:
        self.source = source
        self.source_id = hashed("source", source.address)
        self.files: list[SourceFile] = []
        self.sidecars = 0
        for file in source.files():
            if suffix_of(file.name) in SIDECARS:
                self.sidecars += 1
            else:
                self.files.append(file)
        self._name, self._stamps = f"file/{self.source_id}", f"stamp/{self.source_id}"
        self.hashed = hashed
        self._noted: dict[str, tuple[int, str, str, str]] = {}
        self.ledger = pa.table({})

    def file_id(self, file: SourceFile) -> str:
        return self.hashed(self._name, file.name)

    def stamp(self, file: SourceFile) -> str:
        """As it is noted: an export's times tell the day of the examination, and a bucket's tag the bytes."""
        return self.hashed(self._stamps, file.stamp)[:32]

    @property
    def digest(self) -> str:
        """Of all names, sizes and stamps: the same only if nothing was added, edited, renamed or removed."""
        whole = hashlib.sha256()
        for file in self.files:
            whole.update(f"{file.name}\0{file.size}\0{file.stamp}\n".encode("utf-8", "surrogateescape"))
        return whole.hexdigest()

    def recall(self, lake: Lake, recipe: Recipe) -> None:
        """Look up what runs of the same recipe noted of these files."""
        rows = lake.read("files", LEDGER, {"source_id": self.source_id, "recipe": recipe.digest})
        self.ledger = newest(rows)
        columns = [self.ledger[name].to_pylist() for name in ("file_id", "size", "stamp", "content", "verdict")]
        self._noted = {file: tuple(rest) for file, *rest in zip(*columns, strict=True)}

    def content(self, file: SourceFile) -> str | None:
        """The hash of its bytes, if it was read before and has not been touched since."""
        if not self._noted:
            return None
        size, stamp, content, _ = self._noted.get(self.file_id(file), (-1, "", "", ""))
        return content if content and size == file.size and stamp == self.stamp(file) else None

    def plan(self, recipe: Recipe) -> Plan:
        """What a run would read, as far as it can be told from outside: a file under a new name may be known inside."""
        known = [file for file in self.files if self.content(file) is not None]
        failed = sum(self._noted[self.file_id(file)][3] == Verdict.FAILED for file in known)
        found = len(self.files)
        return Plan(
            stage=recipe.stage, recipe=recipe.digest, found=found,
            new=found - len(known), reused=len(known) - failed, retried=failed,
        )  # fmt: skip

    def windows(self) -> Iterator[Sequence[SourceFile]]:
        for start in range(0, len(self.files), WINDOW):
            yield self.files[start : start + WINDOW]


def suffix_of(name: str) -> str:
    return splitext(name)[1].lower()  # noqa: PTH122  of every name: Path costs more


def newest(rows: pa.Table) -> pa.Table:
    """The newest row of each file_id."""
    if rows.num_rows < 2:
        return rows
    ordered = rows.sort_by([("file_id", "ascending"), ("seen_at", "descending")]).combine_chunks()
    ids = ordered["file_id"].chunk(0)
    first = pc.not_equal(ids[1:], ids[:-1])
    return ordered.filter(pa.concat_arrays([pa.array([True]), first]))
