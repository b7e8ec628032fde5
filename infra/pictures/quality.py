"""What makes a picture unfit, whatever file it came in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgr2.infra.pictures.reading import RefusedError

if TYPE_CHECKING:
    from PIL import Image

    from medgr2.schemas.intake import ReadingRules

LONGEST_TO_SHORTEST = 100
"""Vision-language preprocessors refuse pictures near 200 to 1; nothing medical comes close to 100 to 1."""
FLAT = 8
"""Grey levels of difference, in any channel, that a flat area shows after lossy compression."""


def check_size(width: int, height: int, rules: ReadingRules) -> None:
    """To be called with what the header says, before anything is decoded."""
    if width * height > rules.max_pixels:
        raise RefusedError("too_many_pixels", f"{width} x {height}, the limit is {rules.max_pixels} pixels")
    short, long = sorted((width, height))
    if short < rules.min_side:
        raise RefusedError("too_small", f"{width} x {height}, the shorter side must be {rules.min_side} or more")
    if long > short * LONGEST_TO_SHORTEST:
        raise RefusedError("extreme_shape", f"{width} x {height}")


def is_blank(image: Image.Image) -> bool:
    """The same value everywhere, but for what compression makes of it. One differing pixel is a picture."""
    # A coarse sample clears nearly every picture; the full look is for those it does not.
    return _is_flat(image.resize((16, 16), 0)) and _is_flat(image)


def _is_flat(image: Image.Image) -> bool:
    extrema = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(high - low <= FLAT for low, high in bands)
