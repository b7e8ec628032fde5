"""Benchmark images: their hashes and near-hashes, read from the pictures or from a list, and held against `images`."""

from __future__ import annotations

import base64
import csv
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from medgr2.infra.lake import Amendment
from medgr2.infra.neighbours import Neighbours
from medgr2.infra.pictures.fingerprint import comparable
from medgr2.infra.pictures.reading import UnreadableError
from medgr2.infra.pictures.sandbox import Sandbox
from medgr2.infra.privacy import patient_hasher, patient_secret
from medgr2.infra.sources import SourceReader, locate, open_source
from medgr2.infra.workspace import Workspace
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, NotFoundError, UsageError
from medgr2.schemas.intake import ReadingRules
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.survey import Survey

LIST = ("sha256", "fingerprint")
REASON = "known_benchmark_image"
NOTHING = "everything known before; nothing of this list"
RULES = ReadingRules(burned_in="off")
"""A benchmark's picture is looked at as it is, and not kept."""


def shun(workspace: Workspace, name: str, source: str) -> dict[str, Any]:
    """Note the pictures of a benchmark and quarantine what was trained on before it was known."""
    reasons: Counter[str] = Counter()
    listed = Path(source).suffix == ".csv" and Path(source).is_file()
    prints = list(_from_list(Path(source)) if listed else _from_pictures(workspace, source, reasons))
    now = datetime.now(UTC)
    rows = [
        {
            # The frames of a film share its content; a fingerprint of another release is noted beside the old one.
            "benchmark_id": sha256_hex(f"{name}\0{content}\0".encode() + fingerprint), "benchmark": name,
            "content": content, "fingerprint": fingerprint, "added_at": now,
        }
        for content, fingerprint in prints
    ]  # fmt: skip
    added = workspace.lake.append_new("benchmarks", rows, key="benchmark_id")
    return {
        "benchmark": name, "images": len(rows), "added": added, "failed": dict(reasons),
        "quarantined": _quarantine(workspace, prints),
    }  # fmt: skip


def export(workspace: Workspace, name: str, out: Path) -> int:
    rows = workspace.lake.read("benchmarks", ["content", "fingerprint"], {"benchmark": name}).to_pylist()
    if not rows:
        raise NotFoundError(f"no benchmark {name}", next_command="medgr2 benchmarks list")
    with out.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(LIST)
        for row in rows:
            writer.writerow([row["content"], base64.b64encode(row["fingerprint"] or b"").decode()])
    return len(rows)


def _from_list(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open(newline="", encoding="utf-8") as f:
        reader = csv.DictReader(f)
        if tuple(reader.fieldnames or ()) != LIST:
            raise DataError(
                f"no list of benchmark images: its columns must be {', '.join(LIST)}", where=str(path), kept=NOTHING
            )
        for line, row in enumerate(reader, start=2):
            yield _listed(row, f"{path}, line {line}")


def _listed(row: dict[str, str | None], where: str) -> tuple[str, bytes]:
    """Refused rather than noted, where it would guard against nothing."""
    content = (row["sha256"] or "").strip().lower()
    try:
        fingerprint = base64.b64decode(row["fingerprint"] or "", validate=True)
    except ValueError:
        fingerprint = b"?"
    if not re.fullmatch(r"[0-9a-f]{64}", content):
        raise DataError("not a SHA-256", where=where, kept=NOTHING)
    if fingerprint and not comparable(fingerprint):
        raise DataError(
            "not a fingerprint, or one of another release", where=where, kept=NOTHING,
            next_command="have the list exported again by this release",
        )  # fmt: skip
    return content, fingerprint


def _from_pictures(workspace: Workspace, source: str, reasons: Counter[str]) -> Iterator[tuple[str, bytes]]:
    storage = workspace.settings.storage
    opened, reader = open_source(source, storage), SourceReader(storage)
    survey = Survey(opened, patient_hasher(workspace.settings))
    contents: dict[int, str] = {}

    def files() -> Iterator[tuple[int, bytes, str]]:
        for number, file in enumerate(survey.files):
            if file.size > RULES.max_bytes:
                reasons["too_many_bytes"] += 1
                continue
            try:
                data = reader.read(locate(opened, file.name))
            except (OSError, NotFoundError, UsageError):
                reasons["unreadable"] += 1
                continue
            contents[number] = sha256_hex(data)
            yield number, data, Path(file.name).suffix.lower()

    sandbox = Sandbox(RULES, patient_secret(workspace.settings))
    try:
        for number, answer in sandbox.read_many(files()):
            content = contents.pop(number)
            if isinstance(answer, UnreadableError):
                reasons[answer.reason] += 1
                yield content, b""  # by its hash at least
                continue
            for picture in answer.pictures:
                yield content, picture.fingerprint
    finally:
        sandbox.close()


def _quarantine(workspace: Workspace, prints: list[tuple[str, bytes]]) -> int:
    """Held before the benchmark was known: out of every split from now on."""
    gone: list[str] = []

    def make(held: pa.Table) -> Amendment:
        rows = held.to_pylist()
        open_ = [row for row in rows if row["split"] in (Split.TRAIN, Split.VALIDATION)]
        contents = {content for content, _ in prints}
        found = {row["image_id"] for row in open_ if {row["image_id"], row["origin"]} & contents}
        known = [fingerprint for _, fingerprint in prints if fingerprint]
        printed = [row for row in open_ if comparable(row["fingerprint"])]
        neighbours = Neighbours(known)
        neighbours.add([row["fingerprint"] for row in printed])
        for match in neighbours.pairs(first_new=len(known)):
            if match.first < len(known):
                found.add(printed[match.second - len(known)]["image_id"])
        gone[:] = sorted(found)
        changed = [
            {**row, "split": Split.QUARANTINED.value, "reason": REASON} for row in open_ if row["image_id"] in found
        ]
        return Amendment(True, [changed])

    workspace.lake.amend("images", make, key="image_id")
    return len(gone)
