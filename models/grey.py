"""Grey pictures: what a model is shown when it has to answer without looking."""

from __future__ import annotations

import tempfile
from pathlib import Path

GREY = (128, 128, 128)


class GreyPictures:
    """Files that last as long as this object."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="medgr2-grey-")

    def instead_of(self, path: Path) -> Path:
        """A grey picture of the same size."""
        from PIL import Image

        with Image.open(path) as image:
            size = image.size
        grey = Path(self._folder.name) / f"{size[0]}x{size[1]}.png"
        if not grey.is_file():
            Image.new("RGB", size, GREY).save(grey)
        return grey
