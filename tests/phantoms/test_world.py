"""Phantoms are deterministic, coherent, and no two patients look alike to a perceptual hash."""

import numpy as np
import pytest

from medgr2_phantoms.world import (
    FINDINGS,
    GRADES,
    LOOKS,
    MODALITIES,
    PLACES,
    SIDE,
    anatomies,
    draw,
    pixels,
    sample_scene,
)


def scenes(count, seed=0, **fixed):
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, **fixed) for _ in range(count)]


def test_the_eight_modalities_have_their_exact_names():
    assert MODALITIES == (
        "CT",
        "MRI",
        "X-Ray",
        "Ultrasound",
        "Dermoscopy",
        "Fundus Photography",
        "OCT",
        "Microscopy",
    )


def test_scenes_are_coherent():
    for scene in scenes(2000):
        assert scene.anatomy in anatomies(scene.modality)
        healthy = (scene.finding == "normal", scene.grade == "absent", scene.quadrant == "nowhere")
        assert len(set(healthy)) == 1
        assert scene.finding in FINDINGS
        assert scene.grade in GRADES
        assert scene.quadrant in PLACES


@pytest.mark.parametrize(
    "fixed",
    [{"anatomy": "colon"}, {"grade": "severe"}, {"finding": "normal"}, {"quadrant": "upper left"}, {"grade": "absent"}],
)
def test_a_fixed_label_is_kept(fixed):
    for scene in scenes(50, **fixed):
        assert {name: getattr(scene, name) for name in fixed} == fixed


@pytest.mark.parametrize("site", ["clean", "ward"])
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_scene_always_gives_the_same_picture(modality, site):
    (scene,) = scenes(1, seed=4, modality=modality)
    again = type(scene).model_validate_json(scene.model_dump_json())
    assert draw(scene, site).tobytes() == draw(again, site).tobytes()
    assert draw(scene, site).size == (SIDE, SIDE)
    assert draw(scene, site).mode == "RGB"


def test_each_lesion_stays_in_its_own_quadrant():
    for scene in scenes(300, seed=1):
        if scene.finding == "normal":
            continue
        twin = scene.model_copy(update={"finding": "normal", "grade": "absent", "quadrant": "nowhere"})
        # The same texture draws other noise once the lesion has used the generator, so compare many pixels, smoothed.
        change = np.abs(pixels(scene, "clean").astype(float) - pixels(twin, "clean").astype(float)).mean(axis=2)
        half = SIDE // 2
        halves = {
            "upper left": change[:half, :half],
            "upper right": change[:half, half:],
            "lower left": change[half:, :half],
            "lower right": change[half:, half:],
        }
        if scene.grade == "severe":
            loudest = max(halves, key=lambda name: np.percentile(halves[name], 90))
            assert loudest == scene.quadrant, scene


def test_the_ward_shows_lesions_fainter_than_the_clean_site():
    faint = {"clean": [], "ward": []}
    for scene in scenes(60, seed=2, finding="nodule", grade="severe"):
        row, column = (16 if "upper" in scene.quadrant else 48), (16 if "left" in scene.quadrant else 48)
        for site, seen in faint.items():
            picture = pixels(scene, site).astype(float).mean(axis=2)
            seen.append(picture[row - 6 : row + 6, column - 6 : column + 6].mean() - picture.mean())
    assert np.mean(faint["ward"]) < 0.75 * np.mean(faint["clean"])


def test_every_look_has_four_anatomies():
    assert {len(look.structures) for look in LOOKS.values()} == {4}


def test_pictures_of_different_scenes_are_not_near_duplicates():
    imagehash = pytest.importorskip("imagehash", reason="imagehash measures near-duplicates; it is a dev dependency")
    from PIL import ImageOps

    pictures = [draw(scene, "ward") for scene in scenes(600, seed=3)]
    plain = np.array([imagehash.phash(picture).hash.ravel() for picture in pictures])
    mirrored = np.array([imagehash.phash(ImageOps.mirror(picture)).hash.ravel() for picture in pictures])
    nearest = []
    for other in (plain, mirrored):
        distance = (plain[:, None, :] != other[None, :, :]).sum(axis=2)
        np.fill_diagonal(distance, 64)
        nearest.append(distance.min(axis=1))
    assert (np.minimum(*nearest) <= 6).mean() < 0.02
