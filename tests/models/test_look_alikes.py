"""Pictures that show the same, by their fingerprints alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from medgr2.infra.pictures.fingerprint import fingerprint
from medgr2.models.look_alikes import LookAlikes, look_alikes


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (96, 96), dtype=np.uint8)
    return ImageOps.autocontrast(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4)))


ONE = fingerprint(picture(1))
MIRRORED = fingerprint(ImageOps.mirror(picture(1).resize((70, 70))))
OTHER = fingerprint(picture(2))


@pytest.mark.parametrize("exam", [ONE, MIRRORED])
def test_an_evaluation_image_is_known_again_also_mirrored(exam: bytes) -> None:
    found = look_alikes({"a": ONE, "b": OTHER}, [("exam", exam)])
    assert found.of_evaluation == {"a"}
    assert found.of_image == {}


def test_by_its_content_where_there_is_no_fingerprint() -> None:
    found = look_alikes({"a": None, "b": OTHER}, [("a", None), ("c", b"")])
    assert found.of_evaluation == {"a"}
    assert found.unseen == {"a"}


def test_tonight_and_held() -> None:
    found = look_alikes({"a": ONE, "b": OTHER, "c": MIRRORED}, held={"h": ONE, "a": OTHER})
    assert found.of_evaluation == frozenset()
    assert found.of_image == {"a": {"h", "c"}, "c": {"h", "a"}}
    assert found.views("a") == ("a", "c", "h")
    assert found.views("b") == ("b",)


def test_the_order_does_not_matter() -> None:
    one = look_alikes({"a": ONE, "b": OTHER, "c": MIRRORED}, [("x", OTHER), ("y", None)], {"h": ONE})
    other = look_alikes({"c": MIRRORED, "b": OTHER, "a": ONE}, [("y", None), ("x", OTHER)], {"h": ONE})
    assert one == other


def test_another_release_and_blank_pictures_are_like_nothing() -> None:
    blank = fingerprint(Image.new("L", (64, 64)))
    old = bytes([1]) + ONE[1:]
    found = look_alikes({"a": old, "b": blank}, [("exam", ONE), ("blank", blank)])
    assert found == LookAlikes(unseen=frozenset({"a"}))
