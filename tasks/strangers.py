"""Strangers: for an item the picture of another patient, so chosen that pictures that come later change no choice."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import Split


class Strangers:
    """All training images on one ring, by their ids; an item begins somewhere on it and takes the first that came with
    its own image or before it, of another patient. Ids are hashes: every image is taken about as often."""

    def __init__(self, lake: Lake) -> None:
        rows = lake.read("images", columns=["image_id", "patient_key", "split", "run", "added_at"]).to_pylist()
        self._images = {row["image_id"]: row for row in rows}
        self._ring = sorted(row["image_id"] for row in rows if row["split"] == Split.TRAIN)

    def of(self, item: Item) -> str | None:
        """None where there is no other patient."""
        own = self._images.get(item.image_id)
        start = bisect_left(self._ring, item.item_id)
        for step in range(len(self._ring) if own else 0):
            other = self._ring[(start + step) % len(self._ring)]
            if own and _fits(own, self._images[other]):
                return other
        return None


def _fits(own: dict[str, Any], other: dict[str, Any]) -> bool:
    here = other["run"] == own["run"] or other["added_at"] <= own["added_at"]
    return bool(here and _patient(other) != _patient(own))


def _patient(image: dict[str, Any]) -> str:
    return str(image["patient_key"] or image["image_id"])
