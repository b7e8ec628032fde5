"""Pixels that are not square in the body are made square in the picture."""

from __future__ import annotations

import math

from PIL import Image

CLOSE_TO_SQUARE = 1.05
WIDEST = 20.0
"""Beyond that the numbers are wrong, not the pixels."""


def squared(picture: Image.Image, tall: float, wide: float, max_pixels: int) -> Image.Image:
    """`tall` and `wide` are a pixel's sides, in any unit. The longer side is stretched, so that nothing is lost."""
    if not (math.isfinite(tall) and math.isfinite(wide) and tall > 0 and wide > 0):
        return picture
    aspect = tall / wide
    if 1 / CLOSE_TO_SQUARE < aspect < CLOSE_TO_SQUARE or not 1 / WIDEST < aspect < WIDEST:
        return picture
    width, height = picture.size
    size = (width, round(height * aspect)) if aspect > 1 else (round(width / aspect), height)
    return picture.resize(size, Image.Resampling.BILINEAR) if size[0] * size[1] <= max_pixels else picture
