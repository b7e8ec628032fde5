from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from medgr2.infra.pictures.fingerprint import FINGERPRINT_BYTES, FINGERPRINT_VERSION, SIDE, fingerprint, unpack


def noise(seed: int, *shape: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).resize((97, 61))


def test_one_length_whatever_the_size_and_colour() -> None:
    pictures = [noise(1, 300, 20), noise(2, 16, 16), noise(3, 40, 40, 3), noise(4, 40, 40, 3).resize((16, 2000))]
    prints = [fingerprint(picture) for picture in pictures]
    assert {len(one) for one in prints} == {FINGERPRINT_BYTES}
    copies, flat = unpack(prints)
    assert copies.shape == (4, SIDE, SIDE)
    assert not flat.any()
    assert len(set(prints)) == 4


def test_it_says_the_same_of_the_same_pixels() -> None:
    picture = noise(5, 50, 50, 3)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    assert fingerprint(picture) == fingerprint(Image.open(io.BytesIO(stream.getvalue())))


def test_a_grey_picture_is_the_same_stored_as_colour() -> None:
    grey = noise(6, 50, 50)
    assert fingerprint(grey) == fingerprint(grey.convert("RGB"))


def test_blank_pictures_are_flat_even_with_a_letter_in_a_corner() -> None:
    blank = Image.new("L", (200, 200), 12)
    lettered = blank.copy()
    ImageDraw.Draw(lettered).text((5, 5), "L", fill=255)
    faint = Image.fromarray(np.random.default_rng(0).integers(12, 15, (200, 200), dtype=np.uint8))
    _, flat = unpack([fingerprint(one) for one in (blank, lettered, faint, noise(7, 9, 9))])
    assert flat.tolist() == [True, True, True, False]


@pytest.mark.parametrize("bad", [b"", b"\x00" * FINGERPRINT_BYTES, bytes((FINGERPRINT_VERSION, 0)) + b"short"])
def test_another_version_is_refused_and_says_what_to_do(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"fingerprint 1 .* Take the pictures in again"):
        unpack([fingerprint(noise(8, 9, 9)), bad])


def test_none_is_fine() -> None:
    copies, flat = unpack([])
    assert len(copies) == len(flat) == 0
