"""Labels: the CSV beside the images, checked column by column and row by row."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Self

from medgr2.infra.privacy import patient_hasher
from medgr2.infra.workspace import Workspace
from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.schemas.vocabulary import Modality, Split

REQUIRED = ("file", "modality")
TOLD = ("modality", "anatomy", "labels", "report", "source", "licence", "patient_key", "split")
NAMED = ("file", "modality", "anatomy", "report", "source", "licence", "patient_id", "split")
MAX_FIELD = 1 << 20
NOTHING = "everything taken in before; nothing of this folder"
HELDOUT_SHARE = 10
"""Without a split column one patient in so many is held out, chosen by the patient's hash: stable for ever."""


@dataclass(frozen=True)
class Label:
    modality: str
    split: Split
    patient_key: str | None
    anatomy: str | None
    report: str | None
    source: str | None
    licence: str | None
    extra: str
    problem: str = ""

    def told(self) -> dict[str, Any]:
        return {
            "modality": self.modality, "anatomy": self.anatomy, "labels": self.extra, "report": self.report,
            "source": self.source, "licence": self.licence, "patient_key": self.patient_key, "split": self.split.value,
        }  # fmt: skip

    def row(self, image_id: str, found: Mapping[str, Any], run: str) -> dict[str, Any]:
        return {"image_id": image_id, **self.told(), "run": run, "added_at": datetime.now(UTC), **found}


class Labels:
    """What the CSV says of each file, and what is wrong with it."""

    def __init__(
        self, by_file: dict[str, list[Label]], splits: dict[str, str], stored: dict[str, dict[str, Any]]
    ) -> None:
        self._by_file = by_file
        self._splits = splits
        self._stored = stored
        self._by_image: dict[str, Label] = {}

    @classmethod
    def read(cls, path: Path, workspace: Workspace) -> Self:
        hashed = patient_hasher(workspace.settings)
        by_file: dict[str, list[Label]] = defaultdict(list)
        for number, row in enumerate(_rows(path), start=2):
            if not row["file"]:
                raise DataError("a label without a file name", where=f"{path}, line {number}", kept=NOTHING)
            by_file[PurePath(row["file"]).as_posix()].append(_label(row, hashed))
        rows = workspace.lake.read("images", columns=["image_id", *TOLD]).to_pylist()
        splits = {row["patient_key"]: row["split"] for row in rows if row["patient_key"]}
        both: dict[str, set[Split]] = defaultdict(set)
        for label in (one for many in by_file.values() for one in many):
            if label.patient_key:
                both[label.patient_key].add(label.split)
        splits.update({patient: "both" for patient, found in both.items() if len(found) > 1})
        return cls(dict(by_file), splits, {row["image_id"]: row for row in rows})

    def of(self, file: PurePath) -> Label | None:
        found = self._by_file.get(file.as_posix())
        return found[0] if found else None

    def problem(self, label: Label | None, image: str) -> str:
        """The reason this file may not come in, or ''. Files are in a fixed order, so the first of two equals stays."""
        if label is None:
            return "no_label"
        if label.problem:
            return label.problem
        if label.patient_key and self._splits.get(label.patient_key, label.split) != label.split:
            return "patient_in_both_splits"
        if self._by_image.setdefault(image, label) != label:
            return "contradicting_labels"
        stored = self._stored.get(image)
        if stored is not None and any(stored[name] != value for name, value in label.told().items()):
            return "labelled_otherwise_before"
        return ""


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise NotFoundError(
            "no labels file",
            where=str(path),
            kept=NOTHING,
            next_command="medgr2 ingest FOLDER --labels FILE.csv",
        )
    csv.field_size_limit(MAX_FIELD)
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            missing = [c for c in REQUIRED if c not in (reader.fieldnames or [])]
            if missing:
                raise DataError(
                    f"the labels have no column {' and no column '.join(missing)}",
                    where=f"{path}, whose first line names {len(reader.fieldnames or [])} columns",
                    kept=NOTHING,
                )
            return [{k: (v or "").strip() for k, v in row.items() if isinstance(k, str)} for row in reader]
    except csv.Error as e:
        raise DataError(f"the labels are no readable CSV: {e}", where=str(path), kept=NOTHING) from None
    except UnicodeDecodeError as e:
        raise DataError("the labels are not UTF-8 text", where=f"{path}, byte {e.start}", kept=NOTHING) from None


def _label(row: Mapping[str, str], hashed: Any) -> Label:
    patient = row.get("patient_id", "")
    patient_key = hashed(row.get("source", ""), patient) if patient else None
    problem = "" if row["modality"] in set(Modality) else "unknown_modality"
    given = row.get("split", "")
    if given and given not in set(Split):
        problem, given = "unknown_split", ""
    if given:
        split = Split(given)
    else:
        split = Split.HELDOUT if patient_key and int(patient_key, 16) % HELDOUT_SHARE == 0 else Split.TRAIN
    extra = {k: v for k, v in row.items() if k not in NAMED and v}
    return Label(
        modality=row["modality"], split=split, patient_key=patient_key, anatomy=row.get("anatomy") or None,
        report=row.get("report") or None, source=row.get("source") or None, licence=row.get("licence") or None,
        extra=json.dumps(extra, sort_keys=True, ensure_ascii=False), problem=problem,
    )  # fmt: skip
