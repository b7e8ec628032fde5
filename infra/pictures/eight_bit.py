"""Any picture that Pillow decodes as 8-bit grey or RGB, or a refusal."""

from __future__ import annotations

from typing import Any

from PIL import Image

from medgr2.infra.pictures.reading import RefusedError


def eight_bit(image: Image.Image, header: dict[str, Any], inverted: bool = False) -> Image.Image:
    """L or RGB. What is transparent becomes black: nothing that was hidden is shown."""
    mode = image.mode
    if mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if mode in ("1", "YCbCr", "HSV"):
        return image.convert("L" if mode == "1" else "RGB")
    if mode[0] in "IF":
        header["scaled_from"] = mode.split(";")[-1]
        return _scaled(image, inverted)
    if mode == "P" and "transparency" not in image.info:
        shown = image.convert("RGB")
        red, green, blue = shown.split()
        return red if red.tobytes() == green.tobytes() == blue.tobytes() else shown
    if mode in ("L", "RGB", "P", "PA", "LA", "La", "RGBA", "RGBa", "RGBX"):
        grey = mode[0] == "L"
        seen = image.convert("RGBA")
        shown = Image.alpha_composite(Image.new("RGBA", seen.size, (0, 0, 0, 255)), seen)
        return shown.convert("L" if grey else "RGB")
    raise RefusedError("wrong_colour", mode)


def _scaled(image: Image.Image, inverted: bool) -> Image.Image:
    """Deep greys to 8 bits between the 0.5th and the 99.5th percentile, as viewers show a picture without a window."""
    import numpy as np

    grey = np.asarray(image).astype(np.float32)
    known = grey[np.isfinite(grey)]
    if known.size == 0:
        raise RefusedError("blank")
    low, high = (float(v) for v in np.percentile(known, (0.5, 99.5)))
    if high <= low:  # nearly all of one value: whatever differs is the picture
        low, high = float(known.min()), float(known.max())
    if high <= low:
        raise RefusedError("blank")
    scaled = np.clip((np.nan_to_num(grey, nan=low, posinf=high, neginf=low) - low) * (255.0 / (high - low)), 0, 255)
    return Image.fromarray((255 - scaled if inverted else scaled).round().astype(np.uint8))
