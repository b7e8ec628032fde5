"""What pictures look like, as short vectors: near ones look alike."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from medgr2.infra.lake import Lake
from medgr2.infra.likeness import local_contrast
from medgr2.infra.pictures.fingerprint import SIDE, comparable, unpack

COARSE = 8
AT_ONCE = 10_000


def looks_of(lake: Lake, images: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """Of those that have a fingerprint of this release and are not flat: their local contrast, made coarse."""
    rows = lake.read("images", ["image_id", "fingerprint"], {"image_id": sorted(set(images))}).to_pylist()
    known = {row["image_id"]: row["fingerprint"] for row in rows if comparable(row["fingerprint"])}
    ids, looks = list(known), dict[str, NDArray[np.float32]]()
    for start in range(0, len(known), AT_ONCE):
        names = ids[start : start + AT_ONCE]
        pixels, flat = unpack([known[name] for name in names])
        step = SIDE // COARSE
        coarse = local_contrast(pixels).reshape(-1, COARSE, step, COARSE, step).mean(axis=(2, 4), dtype=np.float32)
        looks |= {name: look.ravel() for name, look, is_flat in zip(names, coarse, flat, strict=True) if not is_flat}
    return looks
