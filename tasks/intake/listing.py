"""What became of each file, for the operator: by its own name, in a file of the operator's, and nowhere else."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medgr2.infra.privacy import patient_hasher
from medgr2.infra.sources import open_source
from medgr2.infra.workspace import Workspace
from medgr2.schemas.errors import StorageError
from medgr2.tasks.intake.survey import Survey, newest

COLUMNS = ("file", "file_id", "verdict", "reason", "detail", "images")


def write_listing(workspace: Workspace, source: str, out: Path) -> None:
    """Readable by its owner only: names of files may tell a patient."""
    try:
        private = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(private, "w", newline="", encoding="utf-8", errors="surrogateescape") as f:
            os.fchmod(f.fileno(), 0o600)
            writer = csv.writer(f)
            writer.writerow(COLUMNS)
            for name, row in _rows(workspace, source):
                writer.writerow([_harmless(name), *(row[c] for c in COLUMNS[1:-1]), " ".join(row["images"] or ())])
    except OSError as e:
        raise StorageError(
            f"cannot write the listing: {e.strerror}", where=str(out), kept="everything taken in"
        ) from None


def _harmless(name: str) -> str:
    """Sheets run what begins like a formula. The same path, which does not."""
    return f"./{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def identifiers(workspace: Workspace, source: str) -> list[dict[str, Any]]:
    """A row for each file and kind: where something was, and how often; never what."""
    return [
        {"file": row["file_id"][:12], "found": kind, "times": times, "verdict": row["verdict"]}
        for _, row in _rows(workspace, source)
        for kind, times in sorted(json.loads(row["found"] or "{}").items())
    ]


def _rows(workspace: Workspace, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    survey = Survey(open_source(source, workspace.settings.storage), patient_hasher(workspace.settings))
    rows = newest(workspace.lake.read("files", where={"source_id": survey.source_id}))
    by_id = {row["file_id"]: row for row in rows.to_pylist()}
    for file in survey.files:
        row = by_id.get(survey.file_id(file))
        if row is not None:
            yield file.name, row
