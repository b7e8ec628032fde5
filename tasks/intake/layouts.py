"""Benchmark layouts: a folder as its authors publish it gives labels and questions, every row accounted for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from medgr2.schemas.digest import digest_of, sha256_hex
from medgr2.schemas.errors import NotFoundError, UsageError
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.benchmarks import BENCHMARKS, Benchmark, FreeQuestion, Question, Told
from medgr2.tasks.intake.columns import NOTHING
from medgr2.tasks.intake.label_rows import Hashed
from medgr2.tasks.intake.labels import CODE, Labels

FACTS = ("modality", "anatomy", "source", "group_id", "split")
STRICTEST = (None, Split.TRAIN, Split.VALIDATION, Split.HELDOUT)
_PEEK = 1 << 16


@dataclass(frozen=True)
class LayoutRow:
    """One row of a benchmark: a question, or the reason why there is none."""

    where: str
    told: Told
    file: str = ""
    question: Question | None = None
    reason: str = ""


@dataclass(frozen=True)
class Account:
    """What became of the rows: rows = taken + all left out."""

    rows: int
    taken: int
    left_out: Counter[str]


@dataclass(frozen=True)
class Layout:
    folder: Path
    benchmark: Benchmark
    files: tuple[PurePosixPath, ...]

    @property
    def name(self) -> str:
        return self.benchmark.name

    def read(self, hashed: Hashed) -> tuple[Labels, Account]:
        """The labels of all images it names, and what became of its questions."""
        images = _Images()
        rows = list(self.rows())
        for row in rows:
            if row.file:
                images.add(row.file, row.told)
        digest = digest_of(
            [CODE, self.name, [[str(f), sha256_hex((self.folder / f).read_bytes())] for f in self.files]]
        )
        labels = Labels.build(images.batches(), self.folder.absolute(), (), hashed, digest)
        return labels, _account(rows)

    def account(self) -> Account:
        """What became of its questions."""
        return _account(list(self.rows()))

    def questions(self) -> Iterator[Question]:
        """{file, question_type, question, options, answer, rationale}: the rationale is empty where they wrote none."""
        for row in self.rows():
            if row.question is not None:
                yield {"file": row.file, **row.question}

    def free_questions(self) -> Iterator[tuple[str, FreeQuestion]]:
        """Each with its image's file; those whose image is not there are left out, as they are of `questions`."""
        for row in self.rows():
            if row.told.free is not None and row.reason not in ("image_missing", "duplicate", "unsafe_path"):
                yield row.file, row.told.free

    def rows(self) -> Iterator[LayoutRow]:
        seen: set[str] = set()
        for file in self.files:
            for number, value in _objects(self.folder / file):
                yield self._row(f"{file}, row {number}", file, value, seen)

    def _row(self, where: str, file: PurePosixPath, value: Any, seen: set[str]) -> LayoutRow:
        if isinstance(value, _Unreadable):
            return LayoutRow(where, Told(), reason=value.reason)
        if not isinstance(value, dict):
            return LayoutRow(where, Told(), reason="not_an_object")
        told = self.benchmark.tell(value, file)
        if not told.images:
            return LayoutRow(where, told, reason="missing:image")
        if any(_outside(image) for image in told.images):
            return LayoutRow(where, told, reason="unsafe_path")
        there = next((image for image in told.images if _is_file(self.folder / image)), "")
        image = there or told.images[0]
        if told.identity in seen:
            return LayoutRow(where, told, image, reason="duplicate")
        if told.identity and not told.reason:
            seen.add(told.identity)
        reason = told.reason or ("" if there else "image_missing")
        return LayoutRow(where, told, image, None if reason else told.question, reason)


def _account(rows: Sequence[LayoutRow]) -> Account:
    left_out = Counter(row.reason for row in rows if row.reason)
    return Account(len(rows), sum(row.question is not None for row in rows), left_out)


def detect(folder: Path) -> Layout | None:
    """The benchmark that the folder is laid out as, if its first rows say so."""
    for benchmark in BENCHMARKS.values():
        files = _files(folder, benchmark)
        if any(_fits(folder / file, benchmark) for file in files):
            return Layout(folder, benchmark, files)
    return None


def layout_of(source: str, name: str) -> Layout:
    """Named by a person; 'auto' looks which it is."""
    found = detect(Path(source)) if name == "auto" else layout(Path(source), name)
    if found is None:
        raise NotFoundError(
            "no benchmark's layout that is known here", where=source, kept=NOTHING,
            next_command="name it with --layout, or take the folder in with --labels FILE",
        )  # fmt: skip
    return found


def layout(folder: Path, name: str) -> Layout:
    """The layout that a person named."""
    if name not in BENCHMARKS:
        raise UsageError(f"no layout {name!r}", next_command=f"--layout {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    if not (files := _files(folder, benchmark)):
        pickles = any(folder.glob("**/*.pkl"))
        raise NotFoundError(
            f"no {name} here" + (": there are pickles, which can run code and are never opened" if pickles else ""),
            where=f"{folder}, where {' or '.join(benchmark.files[:3])} was looked for",
            kept=NOTHING,
            next_command="convert the pickles to JSON yourself, if you trust them"
            if pickles
            else "name its top folder",
        )
    return Layout(folder, benchmark, files)


def _files(folder: Path, benchmark: Benchmark) -> tuple[PurePosixPath, ...]:
    found: dict[PurePosixPath, None] = {}
    for pattern in benchmark.files:
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                found[PurePosixPath(path.relative_to(folder).as_posix())] = None
    return tuple(found)


def _fits(path: Path, benchmark: Benchmark) -> bool:
    with path.open("rb") as f:
        head = f.read(_PEEK).decode("utf-8-sig", "ignore").lstrip().removeprefix("[").lstrip()
    try:
        row, _ = json.JSONDecoder().raw_decode(head)
    except (ValueError, RecursionError):
        return False
    if not isinstance(row, dict) or not benchmark.keys <= row.keys():
        return False
    return not benchmark.first_image or bool(re.search(benchmark.first_image, str(row.get("image"))))


@dataclass(frozen=True)
class _Unreadable:
    reason: str


def _objects(path: Path) -> Iterator[tuple[int, Any]]:
    """The values of a JSON list, or of one JSON value a line, up to where it is broken."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        yield 1, _Unreadable("not_utf8")
        return
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,]*")
    opened = re.match(r"\s*\[", text)
    at, number = (opened.end() if opened else 0), 0
    while True:
        at = between.match(text, at).end()  # type: ignore[union-attr]
        if at >= len(text) or (opened and text[at] == "]"):
            break
        number += 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield number, _Unreadable("unreadable_json")
            return
        yield number, value
    if opened and at >= len(text):
        yield number + 1, _Unreadable("unreadable_json")


def _outside(image: str) -> bool:
    path = PurePosixPath(image.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or bool(re.match(r"[A-Za-z]:|\w+://", image)) or "\0" in image


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False


class _Images:
    """What all rows say of each image. The strictest split wins: an image that is examined on never trains."""

    def __init__(self) -> None:
        self._facts: dict[str, dict[str, str]] = {}
        self._other: list[tuple[str, dict[str, str]]] = []
        self._split: dict[str, int] = {}

    def add(self, file: str, told: Told) -> None:
        held = self._facts.setdefault(file, {})
        if any(held.get(name, value) != value for name, value in told.facts.items()):
            self._other.append((file, dict(told.facts)))
        else:
            held.update(told.facts)
        self._split[file] = max(self._split.get(file, 0), STRICTEST.index(told.split))

    def batches(self) -> Iterator[pa.RecordBatch]:
        rows = [*self._facts.items(), *self._other]
        columns: dict[str, list[str | None]] = {"file": [file for file, _ in rows]}
        for name in FACTS[:-1]:
            columns[name] = [facts.get(name) for _, facts in rows]
        columns["split"] = [split.value if (split := STRICTEST[self._split[file]]) else None for file, _ in rows]
        if rows:
            yield pa.RecordBatch.from_pydict(columns, schema=pa.schema([(name, pa.string()) for name in columns]))
