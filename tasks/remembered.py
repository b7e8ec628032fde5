"""What a model may remember: its lessons and those of the models it came from, as far as the lake still holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.infra.workspace import Workspace
from medgr2.models.registry import Registry, Source
from medgr2.schemas.errors import DataError
from medgr2.tasks.lessons import left_of, recorded


@dataclass(frozen=True)
class Remembered:
    """By word of the registry. What a base was trained on before it came here, nobody knows."""

    sources: tuple[Source, ...] = ()
    images: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset()
    question_types: frozenset[str] = frozenset()


def remembered(workspace: Workspace, model_id: str) -> Remembered:
    return left_in(workspace.lake, Registry(workspace.store, workspace.lake).taught(model_id))


def left_in(lake: Lake, sources: Sequence[Source]) -> Remembered:
    """What was erased since is in no exam either: the lessons need not be whole to be compared with one."""
    ids: set[str] = set()
    for source in sources:
        recorded(lake, source)
        ids |= left_of(lake, source)
    if not ids:
        return Remembered(tuple(sources))
    items = lake.read("items", ["item_id", "image_id", "question_type"], {"item_id": sorted(ids)}).to_pylist()
    images = {row["image_id"] for row in items}
    rows = lake.read("images", ["image_id", "patient_key", "modality"], {"image_id": sorted(images)}).to_pylist()
    return Remembered(
        tuple(sources),
        frozenset(images),
        frozenset(row["patient_key"] for row in rows if row["patient_key"]),
        frozenset(row["modality"] for row in rows if row["modality"]),
        frozenset(row["question_type"] for row in items),
    )


def check_disjoint(heldout: Sequence[Mapping[str, Any]], taught: Remembered) -> None:
    """No image and no patient of the exam may have been in the lessons, or the marks mean nothing."""
    images = {row["image_id"] for row in heldout} & taught.images
    patients = {row["patient_key"] for row in heldout} & taught.patients
    if images or patients:
        raise DataError(
            f"{len(images)} images and {len(patients)} patients are both in the training data and in the held-out set",
            where=", ".join(f"{source.dataset}@{source.version}" for source in taught.sources),
            kept="nothing was evaluated",
            next_command="publish the training data again without them, and train anew",
        )
