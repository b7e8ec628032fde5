from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medgr2.infra.likeness import TURNS, agree, inverse, local_contrast, may_agree, turned
from medgr2.infra.pictures.fingerprint import SIDE


def textures(count: int, seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    """Smooth at first sight, with detail at every scale."""
    draw = np.random.default_rng(seed)
    total = np.zeros((count, side, side))
    for size in (4, 8, 16):
        small = draw.normal(size=(count, size, size)) / size**0.5
        at = np.linspace(0, size - 1, side)
        near = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)))
        total += near @ small @ near.T
    low, high = total.min((1, 2), keepdims=True), total.max((1, 2), keepdims=True)
    return ((total - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_every_turn_can_be_undone(turn: int) -> None:
    pictures = textures(3)
    assert np.array_equal(turned(turned(pictures, turn), inverse(turn)), pictures)


def test_the_turns_are_eight_different_ones() -> None:
    assert len({turned(textures(1), turn).tobytes() for turn in range(len(TURNS))}) == len(TURNS) == 8


@pytest.mark.parametrize(("name", "expected"), [("rotated 90", 1), ("rotated 180", 2), ("rotated 270", 3)])
def test_rotations_are_named_as_everywhere(name: str, expected: int) -> None:
    pictures = textures(1)
    turn = [str(one) for one in TURNS].index(name)
    assert np.array_equal(turned(pictures, turn)[0], np.rot90(pictures[0], expected))


def test_local_contrast_does_not_see_brightness_and_gain() -> None:
    pictures = textures(4) // 2
    brighter = (pictures.astype(float) * 1.5 + 40).astype(np.uint8)
    assert np.abs(local_contrast(pictures) - local_contrast(brighter)).mean() < 0.05


def test_the_same_agrees_and_others_do_not() -> None:
    one, other = local_contrast(textures(20)), local_contrast(textures(20, seed=1))
    assert (agree(one, one) > 0.97).all()
    assert (may_agree(one, one) > 0.9).all()
    assert (agree(one, other) < 0.6).all()


def test_a_shift_of_a_pixel_and_a_half_is_found() -> None:
    large = textures(20, side=4 * SIDE + 12).astype(float)

    def seen(start: int) -> NDArray[np.uint8]:
        part = large[:, start : start + 4 * SIDE, start : start + 4 * SIDE]
        return part.reshape(-1, SIDE, 4, SIDE, 4).mean((2, 4)).astype(np.uint8)

    here, there = local_contrast(seen(0)), local_contrast(seen(6))
    unmoved = (here * there).sum((1, 2)) / (here * here).sum((1, 2))
    assert np.median(unmoved) < 0.5
    assert np.median(agree(here, there)) > 0.8


def test_a_box_over_one_place_spoils_only_that_place() -> None:
    boxed = textures(20)
    boxed[:, 3:8, 4:16] = 0
    assert (agree(local_contrast(textures(20)), local_contrast(boxed)) > 0.9).all()


def test_nothing_is_like_a_blank() -> None:
    blank = local_contrast(np.full((5, SIDE, SIDE), 7, np.uint8))
    assert (agree(blank, blank) < 0.1).all()
    assert np.isfinite(agree(blank, local_contrast(textures(5)))).all()
