"""The rows of `images` that an admission adds or changes, built column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.pictures.fingerprint import comparable
from medgr2.schemas.tables import TABLES
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.candidates import Candidates
from medgr2.tasks.intake.case import Case
from medgr2.tasks.intake.scrubbing import ReportScrub

IMAGES = TABLES["images"].schema
OF_PICTURE = ("image_id", "width", "height", "media_type", "bytes", "part", "burned_in", "fingerprint")
OF_FILE = ("source", "licence", "labels", "header")
PART = 4096


def changed(case: Case) -> list[str]:
    """The images whose rows are new, or other than they are held."""
    return [image for image in case.owner if _differs(case, image)]


def image_rows(
    case: Case, candidates: Candidates, images: Sequence[str], scrub: ReportScrub, run: str
) -> Iterator[pa.Table]:
    """A part at a time: the rows of a hundred thousand images are more than has to be in memory."""
    now = datetime.now(UTC)
    for start in range(0, len(images), PART):
        yield _part(case, candidates, images[start : start + PART], scrub, run, now)


def _part(
    case: Case, candidates: Candidates, images: Sequence[str], scrub: ReportScrub, run: str, now: datetime
) -> pa.Table:
    pictures = candidates.pictures.take(pa.array([case.owner[image] for image in images], pa.int64()))
    files = [case.file(image) for image in images]
    of_files = candidates.files.take(pa.array(files, pa.int64()))
    columns = {name: pictures[name] for name in OF_PICTURE} | {name: of_files[name] for name in OF_FILE}
    persons = candidates.persons.take(pa.array(files, pa.int64())).to_pylist()
    told = zip(of_files["report"].to_pylist(), persons, strict=True)
    reports = [scrub(report, known) if report else None for report, known in told]
    back = [case.held_back.get(image, (None, None)) for image in images]
    n = len(images)
    columns |= {
        "report": pa.array(reports, pa.string()),
        "modality": pa.array([case.told["modality"][file] for file in files], pa.string()),
        "anatomy": pa.array([case.told["anatomy"][file] for file in files], pa.string()),
        "patient_key": pc.coalesce(of_files["patient_key"], of_files["header_patient"]),
        "keys": pa.array([case.keys_of(image) for image in images], pa.list_(pa.string())),
        "origin": of_files["content"],
        "told": pa.array([case.told_digest[file] for file in files], pa.string()),
        "split": pa.array([case.splits[image] for image in images], pa.string()),
        "reason": pa.array([reason for reason, _ in back], pa.string()),
        "against": pa.array([against for _, against in back], pa.string()),
        "run": pa.array([run] * n, pa.string()),
        "added_at": pa.array([now] * n, IMAGES.field("added_at").type),
    }
    return pa.table({field.name: columns[field.name].cast(field.type) for field in IMAGES}, IMAGES)


def _differs(case: Case, image: str) -> bool:
    was = (case.held_value(image, "split"), case.held_value(image, "reason"), case.held_value(image, "told"))
    reason, _ = case.held_back.get(image, (None, None))
    now = (case.splits[image], reason, case.told_digest[case.file(image)])
    return (
        image not in case.held_at
        or was != now
        or set(case.keys_of(image)) != set(case.held_keys(image))
        or not comparable(case.held_value(image, "fingerprint"))
    )


def elsewhere_changed(case: Case) -> list[str]:
    """Images that other files brought, and that may no longer be used, or are shared with more patients."""
    withdrawn = [image for image in case.held_back if image not in case.owner and case.in_use(image)]
    shared = [image for image in case.copied if image not in case.owner and image in case.held_at]
    bound = [image for image in shared if case.copied[image].difference(case.held_keys(image))]
    return list(dict.fromkeys([*withdrawn, *bound]))


def elsewhere_rows(case: Case, rows: pa.Table) -> pa.Table:
    changed: list[dict[str, Any]] = []
    for row in rows.to_pylist():
        image = row["image_id"]
        if image in case.held_back and case.in_use(image):
            reason, against = case.held_back[image]
            row |= {"split": Split.QUARANTINED.value, "reason": reason, "against": against}
        changed.append({**row, "keys": case.keys_of(image)})
    return pa.Table.from_pylist(changed, IMAGES)
