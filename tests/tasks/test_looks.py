"""Looks: a picture is nearest to what shows nearly the same; flat ones and those of another release have none."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from medgr2.infra.pictures.fingerprint import fingerprint
from medgr2.tasks.looks import looks_of


def picture(seed: int, noise: float = 0.0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6), np.uint8)
    large = np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC), np.float64)
    grain = np.random.default_rng([seed, 1]).normal(0, noise, large.shape)
    return Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8))


def held(room: Any, image: Image.Image | None, mark: bytes | None = None) -> str:
    buffer = io.BytesIO()
    (image or Image.new("L", (64, 64), 128)).save(buffer, "PNG")
    image_id: str = room.images.put(buffer.getvalue())
    shown = fingerprint(image) if image is not None else fingerprint(Image.new("L", (64, 64), 128))
    row = {"image_id": image_id, "split": "train", "fingerprint": shown if mark is None else mark, "added_at": room.now}
    room.lake.append_new("images", [row], key="image_id")
    return image_id


def test_near_in_the_vector_is_near_to_the_eye(room: Any) -> None:
    one, again, other = held(room, picture(1)), held(room, picture(1, noise=12)), held(room, picture(2))
    looks = looks_of(room.lake, [one, again, other])
    apart = {name: float(np.linalg.norm(looks[one] - looks[name])) for name in (again, other)}
    assert apart[again] < 0.5 * apart[other]


def test_what_cannot_be_compared_has_no_look(room: Any) -> None:
    flat, older = held(room, None), held(room, picture(3), mark=b"\x01" + b"0" * 100)
    assert looks_of(room.lake, [flat, older, "gone"]) == {}
