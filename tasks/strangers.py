"""Strangers: for an item the pictures of other patients, so chosen that pictures that come later change no choice."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import Split


class Strangers:
    """All training images on one ring, by their ids; an item begins somewhere on it and takes the first that came with
    its own image or before it, each of another patient. Ids are hashes: every image is taken about as often."""

    def __init__(self, lake: Lake) -> None:
        rows = lake.read("images", columns=["image_id", "patient_key", "split", "run", "added_at"]).to_pylist()
        self._images = {row["image_id"]: row for row in rows}
        self._ring = sorted(row["image_id"] for row in rows if row["split"] == Split.TRAIN)

    def of(self, item: Item, count: int) -> list[str]:
        """Fewer where there are not so many other patients."""
        own = self._images.get(item.image_id)
        if own is None:
            return []
        start, patients = bisect_left(self._ring, item.item_id), {_patient(own)}
        found: list[str] = []
        for step in range(len(self._ring)):
            if len(found) == count:
                break
            other = self._images[self._ring[(start + step) % len(self._ring)]]
            here = other["run"] == own["run"] or other["added_at"] <= own["added_at"]
            if here and _patient(other) not in patients:
                patients.add(_patient(other))
                found.append(str(other["image_id"]))
        return found


def _patient(image: dict[str, Any]) -> str:
    return str(image["patient_key"] or image["image_id"])
