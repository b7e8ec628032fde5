"""Folds: no member of a reward judges a picture that it learned from, nor another one of the same patient.

So what is said of an item that taught the reward is as good as what is said of one that did not, and every audit may
both teach and measure. What is bound to share a split shares a fold as well: patients, studies, groups, the parts of
one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.schemas.digest import digest_of
from medgr2.tasks.intake.groups import Groups

FOLDS = 2
BINDS = ("patient_key", "keys", "origin")


def folds(lake: Lake, images: Iterable[str]) -> dict[str, int]:
    """By image. One that is not in the lake stands alone."""
    rows = lake.read("images", columns=["image_id", *BINDS]).to_pylist()
    groups, name_of = Groups(), dict[Any, str]()
    for row in rows:
        for bond in _bonds(row):
            groups.join(("image", row["image_id"]), ("bond", bond))
    for row in rows:
        root = groups.root(("image", row["image_id"]))
        name_of[root] = min(_name(row), name_of.get(root, _name(row)))
    return {
        image: int(digest_of(["fold", name_of.get(groups.root(("image", image)), image)])[:8], 16) % FOLDS
        for image in set(images)
    }


def _bonds(row: Mapping[str, Any]) -> list[str]:
    return [bond for bond in (row["patient_key"], *(row["keys"] or ()), row["origin"]) if bond]


def _name(row: Mapping[str, Any]) -> str:
    """Of all that binds a picture what comes first, the patient: a later study of his names no other group."""
    return next(iter(_bonds(row)), str(row["image_id"]))
