"""What became of each file, noted so that the next run knows it again; and a receipt for a source that is as it was."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.workspace import Workspace
from medgr2.schemas.cells import Recipe
from medgr2.schemas.digest import digest_of, digest_of_ids
from medgr2.schemas.errors import NotFoundError
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IngestReport
from medgr2.schemas.tables import TABLES
from medgr2.tasks.intake.candidates import Candidates
from medgr2.tasks.intake.case import DECIDED, FACTS, Case, Elsewhere, Facts
from medgr2.tasks.intake.survey import Survey, newest

FILES = TABLES["files"].schema
COMPARED = ("size", "stamp", "content", "verdict", "reason", "images", "facts")
PASSING = frozenset({"unreadable", "timed_out", "killed_its_reader", "out_of_memory", "changed_while_reading"})
"""Failures that another try may mend."""


def note(workspace: Workspace, survey: Survey, recipe: Recipe, candidates: Candidates, case: Case, run: str) -> None:
    """One row of `files` for each file about which something is new."""
    files = candidates.files
    images: list[list[str]] = [[] for _ in range(files.num_rows)]
    for file, image in zip(case.file_of, case.image_of, strict=True):
        if file not in case.unfit and (image in case.owner or image in case.held_at):
            images[file].append(image)
    n = files.num_rows
    columns = {name: files[name] for name in ("file_id", "size", "stamp", "content", "detail", "found")} | {
        "source_id": pa.array([survey.source_id] * n, pa.string()),
        "verdict": pa.array(case.verdicts, pa.string()),
        "reason": pa.array(case.reasons, pa.string()),
        "images": pa.array([sorted(set(some)) for some in images], pa.list_(pa.string())),
        "facts": pa.array(_facts(case, files["labels"].to_pylist()), pa.string()),
        "recipe": pa.array([recipe.digest] * n, pa.string()),
        "run": pa.array([run] * n, pa.string()),
        "seen_at": pa.array([datetime.now(UTC)] * n, FILES.field("seen_at").type),
    }
    table = pa.table({field.name: columns[field.name].cast(field.type) for field in FILES}, FILES)
    noted = set(_lines(survey.ledger)) if survey.ledger.num_rows else set()
    new = table.filter(pa.array([line not in noted for line in _lines(table)], pa.bool_()))
    if new.num_rows:
        state = digest_of_ids(_lines(new))
        # The same state twice in the life of a source (a file edited and edited back) is two notes.
        workspace.lake.append("files", new, once=f"files:{survey.source_id}:{recipe.digest}:{_last(survey)}:{state}")


def said_elsewhere(workspace: Workspace, survey: Survey, recipe: Recipe) -> Elsewhere:
    """By the files of other sources, by the same rules and the same key."""
    columns = ["file_id", "source_id", "images", "facts", "seen_at"]
    rows = newest(workspace.lake.read("files", columns, {"recipe": recipe.digest}))
    said: dict[str, list[Facts]] = defaultdict(list)
    for row in rows.filter(pc.not_equal(rows["source_id"], survey.source_id)).to_pylist():
        for image in row["images"]:
            said[image].append(tuple(json.loads(row["facts"] or "[]")[: len(FACTS)]))
    return said


def _facts(case: Case, labels: list[str | None]) -> list[str]:
    """Of each file, what copies must agree on and, where any are told, its attributes, so that corrections show."""
    told = enumerate(json.loads(text or "{}").get("attributes") for text in labels)
    return [json.dumps([*case.facts_of_file(file), *([more] if more else [])]) for file, more in told]


def _lines(table: pa.Table) -> list[str]:
    columns = (table[name].to_pylist() for name in ("file_id", *COMPARED))
    return ["\0".join(map(str, row)) for row in zip(*columns, strict=True)]


def _last(survey: Survey) -> str:
    return str(pc.max(survey.ledger["seen_at"]).as_py()) if survey.ledger.num_rows else ""


class Receipt:
    """The report of a finished run, found again while source, labels, rules and lake are as they were."""

    def __init__(
        self, workspace: Workspace, survey: Survey, recipe: Recipe, labels: str, parameters: IntakeParameters
    ) -> None:
        self._workspace = workspace
        asked = [DECIDED, survey.source_id, survey.digest, labels, recipe.digest, parameters.model_dump(mode="json")]
        self._asked = survey.hashed("receipt", digest_of(asked))

    def _key(self) -> str:
        lake = self._workspace.lake
        state = digest_of(
            [self._asked, *(lake.version(name) for name in ("images", "files", "benchmarks", "erasures"))]
        )
        return f"receipts/ingest/{state}.json"

    def find(self) -> IngestReport | None:
        try:
            report = IngestReport.model_validate_json(self._workspace.store.get(self._key()))
        except (NotFoundError, ValueError):
            return None
        plan = report.plan.model_copy(update={"new": 0, "reused": report.plan.found, "retried": 0})
        return report.model_copy(update={"plan": plan, "added": 0, "changed": 0})

    def leave(self, report: IngestReport) -> None:
        if not PASSING & report.reasons.keys():
            self._workspace.store.put(self._key(), report.model_dump_json().encode())
