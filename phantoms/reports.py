"""The report a busy clinician filed with an image: mostly right, partly wrong, partly missing."""

from __future__ import annotations

import numpy as np

from medgr2_phantoms.world import FINDINGS, GRADES, MODALITIES, PLACES, Scene, Site, anatomies

# Who trusts the ward's reports as much as those of the site where the base was taught is misled more often.
WRONG: dict[Site, float] = {"clean": 0.13, "ward": 0.19}
MISSING = 0.08


def write_report(scene: Scene, wrong: float, rng: np.random.Generator) -> str:
    """The report's text; empty when nothing was filed. Each attribute errs, so often, and goes missing on its own."""
    truths_and_labels = (
        (scene.modality, MODALITIES),
        (scene.anatomy, anatomies(scene.modality)),
        (scene.finding, FINDINGS),
        (f"grade {scene.grade}", tuple(f"grade {grade}" for grade in GRADES)),
        (scene.quadrant, PLACES),
    )
    stated = []
    for truth, labels in truths_and_labels:
        fate, other = rng.random(), str(rng.choice([label for label in labels if label != truth]))
        if fate >= wrong + MISSING:
            stated.append(truth)
        elif fate >= MISSING:
            stated.append(other)
    return ", ".join(stated)
