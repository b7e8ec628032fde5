"""Reports are a noisy source: mostly right, partly wrong, partly silent."""

import numpy as np
import pytest

from medgr2_phantoms.reports import MISSING, WRONG, write_report
from medgr2_phantoms.world import sample_scene


@pytest.mark.parametrize("site", ["clean", "ward"])
def test_attributes_err_and_go_missing_at_the_stated_rates(site):
    rng = np.random.default_rng(0)
    right = wrong = missing = 0
    for _ in range(3000):
        scene = sample_scene(rng)
        stated = write_report(scene, WRONG[site], rng).split(", ")
        truths = [scene.modality, scene.anatomy, scene.finding, f"grade {scene.grade}", scene.quadrant]
        said = sum(truth in stated for truth in truths)
        right += said
        wrong += len([part for part in stated if part]) - said
        missing += 5 - len([part for part in stated if part])
    total = right + wrong + missing
    assert abs(wrong / total - WRONG[site]) < 0.02
    assert abs(missing / total - MISSING) < 0.02
