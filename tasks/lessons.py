"""What a model may be taught: the items of exact dataset versions, with their pictures and what was judged of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from medgr2.infra.lake import Lake
from medgr2.infra.version_history import fold
from medgr2.infra.versions import members, resolve, versions
from medgr2.models.registry import Source
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Draft
from medgr2.schemas.parameters import EVALUATION_DATASETS
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import Origin, Split


@dataclass(frozen=True, slots=True)
class Lesson:
    item_id: str
    image_id: str
    question_type: str
    draft: Draft
    human: bool
    report: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    agree: float | None
    p_valid: float | None


def source_of(version: DatasetVersion) -> Source:
    return Source(dataset=version.dataset, version=version.version, digest=version.digest)


def recorded(lake: Lake, source: Source) -> DatasetVersion:
    """The version that was recorded, and no other under its name."""
    version = resolve(lake, f"{source.dataset}@{source.version}")
    if version.digest != source.digest:
        raise DataError(
            f"{version.ref} has the digest {version.digest[:12]}, not {source.digest[:12]} as recorded",
            where="table versions",
            kept="every model and every answer; nothing was begun",
        )
    return version


def left_of(lake: Lake, source: Source) -> set[str]:
    """Items of a version, also where others of it were erased."""
    return fold(lake, source.dataset, [v for v in versions(lake, source.dataset) if v.version <= source.version])


def read_lessons(lake: Lake, sources: Sequence[Source]) -> list[Lesson]:
    """The items of the versions, each once, in the order of their ids; refused when a version is not what it was."""
    ids: dict[str, str] = {}
    if exams := sorted({source.dataset for source in sources} & set(EVALUATION_DATASETS)):
        raise DataError(
            f"{', '.join(exams)} is for exams: no model is trained on it, and no checkpoint chosen by it",
            kept="nothing was trained",
            next_command="publish what is to be taught under another name",
        )
    for source in sources:
        version = recorded(lake, source)
        ids.update(dict.fromkeys(members(lake, version), version.ref))
    rows = lake.read("items", where={"item_id": sorted(ids)}).to_pylist()
    if len(rows) != len(ids):
        raise _gone(ids, {row["item_id"] for row in rows})
    images = images_of(lake, {row["image_id"] for row in rows})
    heldout = sorted(row["item_id"] for row in rows if images[row["image_id"]]["split"] != Split.TRAIN)
    if heldout:
        raise DataError(
            f"{len(heldout)} of {len(rows)} items are about held-out images, which no training may see",
            where=f"first: {heldout[0]}",
            kept="nothing was trained",
            next_command="publish a version without them",
        )
    return [_lesson(row, images[row["image_id"]]) for row in sorted(rows, key=lambda row: row["item_id"])]


def _gone(ids: dict[str, str], found: set[str]) -> DataError:
    lost = Counter(ref for item_id, ref in ids.items() if item_id not in found)
    held = Counter(ids.values())
    told = ", ".join(f"{lost[ref]} of {held[ref]} of {ref}" for ref in sorted(lost))
    return DataError(
        f"items of the versions are gone, erased or lost: {told}",
        where="table items",
        kept="nothing was trained; models that were taught by these versions stay in the registry",
        next_command=f"medgr2 versions {min(lost).partition('@')[0]}  and train on one that was published since",
    )


def images_of(lake: Lake, ids: set[str]) -> dict[str, dict[str, Any]]:
    columns = ["image_id", "split", "patient_key", "report", "modality"]
    found = {row["image_id"]: row for row in lake.read("images", columns, {"image_id": sorted(ids)}).to_pylist()}
    if missing := sorted(ids - found.keys()):
        raise DataError(f"{len(missing)} images of items are not in the lake", where=f"first: {missing[0]}")
    return found


def _lesson(row: dict[str, Any], image: dict[str, Any]) -> Lesson:
    draft = Draft(
        question=row["question"], options=tuple(row["options"]), answer=row["answer"], rationale=row["rationale"]
    )
    return Lesson(
        item_id=row["item_id"],
        image_id=row["image_id"],
        question_type=row["question_type"],
        draft=draft,
        human=row["origin"] == Origin.HUMAN,
        report=image["report"],
    )


def published_at(lake: Lake, sources: Sequence[Source]) -> datetime:
    """When the newest of the versions was published."""
    rows = lake.read("versions", ["dataset", "version", "published_at"]).to_pylist()
    wanted = {(source.dataset, source.version) for source in sources}
    return max(row["published_at"] for row in rows if (row["dataset"], row["version"]) in wanted)


def judgements(lake: Lake, item_ids: Sequence[str], until: datetime | None = None) -> dict[str, Judgement]:
    """The newest judgement of each item, passed by `until`; an item that was not scored by then has none.

    Training reads what was known when its data was published: a later night that judges an item anew must not
    turn a finished training into another one.
    """
    columns = ["item_id", "score_id", "agree", "p_valid", "scored_at"]
    table: pa.Table = lake.read("scores", columns, {"item_id": sorted(item_ids)})
    newest: dict[str, Judgement] = {}
    for row in table.sort_by([("scored_at", "ascending"), ("score_id", "ascending")]).to_pylist():
        if until is not None and row["scored_at"] > until:
            break
        newest[row["item_id"]] = Judgement(agree=row["agree"], p_valid=row["p_valid"])
    if nonsense := sorted(i for i, j in newest.items() if not (_a_number(j.agree) and _a_number(j.p_valid))):
        raise DataError(
            f"what was judged of {len(nonsense)} of {len(newest)} items is no number",
            where=f"table scores, first: {nonsense[0]}",
            kept="every finished model; nothing was trained on it",
            next_command="score the items again: the newest judgement of each counts",
        )
    return newest


def _a_number(value: float | None) -> bool:
    return value is None or math.isfinite(value)


def judgements_digest(judged: dict[str, Judgement]) -> str:
    return digest_of(sorted([item_id, j.agree, j.p_valid] for item_id, j in judged.items()))
