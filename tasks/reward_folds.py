"""Folds: no member of a reward judges a picture that it learned from, nor another one of the same patient.

So what is said of an item that taught the reward is as good as what is said of one that did not, and every audit may
both teach and measure.
"""

from __future__ import annotations

from collections.abc import Iterable

from medgr2.infra.lake import Lake
from medgr2.schemas.digest import digest_of

FOLDS = 2


def folds(lake: Lake, images: Iterable[str]) -> dict[str, int]:
    """By image. Those of a patient who is known stand together."""
    wanted = set(images)
    rows = lake.read("images", columns=["image_id", "patient_key"], where={"image_id": sorted(wanted)}).to_pylist()
    whose = {row["image_id"]: row["patient_key"] or row["image_id"] for row in rows}
    return {image: int(digest_of(["fold", whose.get(image, image)])[:8], 16) % FOLDS for image in wanted}
