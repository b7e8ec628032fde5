"""Text burned into the pixels of a picture: found by a text detector, painted over, and looked for again."""

from __future__ import annotations

import importlib.util
from typing import Any

from PIL import Image, ImageDraw, ImageStat

from medgr2.schemas.errors import MissingExtraError

Box = tuple[int, int, int, int]
"""Left, top, right, bottom; right and bottom are outside."""

_SHORT_SIDES = (960, 736, 736)
"""What small pictures are enlarged to, look by look. The detector is blind to letters of a few pixels and to huge ones:
a second look at another scale sees what the first could not, for half its price."""
_LARGEST_ZOOM = 4.5
_MOST_PIXELS = 4_000_000
_SEEN = 0.4
"""Below the detector's usual 0.5: a missed box is a leak, an extra one costs a few pixels."""
_DOUBTFUL, _HIGHEST = 0.08, 0.35
"""Boxes higher than this share of the picture's short side must be clearly legible, or are no text at all: the detector
takes organs for letters, and the reader finds a word in any picture that it is shown whole."""
_READ, _READ_CLEARLY = 0.5, 0.75
_LETTERS = 2
_GRID = 4
"""Masks end on this grid, so that the last bits of an arithmetic unit do not change what is stored."""


def available() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("rapidocr", "onnxruntime"))


class TextFinder:
    """One per process: the models are loaded on first use and the answers are those of a single thread."""

    def __init__(self) -> None:
        if not available():
            raise MissingExtraError(
                "Looking for text burned into pictures needs a text detector that is not installed.",
                where="rapidocr and onnxruntime",
                next_command="pip install 'medgr2[ocr]'",
            )
        self._engine: Any = None

    def boxes(self, image: Image.Image, short_side: int = _SHORT_SIDES[0]) -> list[Box]:
        """Where there is text, in reading order, as tight boxes."""
        import numpy as np

        picture = image.convert("RGB")
        zoom = _zoom(picture.width, picture.height, short_side)
        size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
        shown = picture.resize(size, Image.Resampling.LANCZOS) if size != picture.size else picture
        pixels = np.ascontiguousarray(np.asarray(shown)[:, :, ::-1])
        answer = self._ocr()(pixels, use_det=True, use_cls=False, use_rec=False)
        if answer.boxes is None:
            return []
        found = []
        for corners in answer.boxes:
            left, top = (corners.min(axis=0) / zoom).tolist()
            right, bottom = (corners.max(axis=0) / zoom).tolist()
            box = _inside((int(left), int(top), int(right) + 1, int(bottom) + 1), picture.size)
            height = min(box[2] - box[0], box[3] - box[1]) / min(picture.size)
            if height <= _DOUBTFUL or (height <= _HIGHEST and self.legible(picture, box, _READ_CLEARLY)):
                found.append(box)
        return found

    def legible(self, image: Image.Image, box: Box, surely: float = _READ) -> bool:
        """Whether at least two letters or digits can be read there: one alone tells nobody's name."""
        import numpy as np

        crop = image.convert("RGB").crop(box)
        if crop.height > 1.5 * crop.width:
            # Side labels are written from bottom to top: a quarter turn clockwise.
            crop = crop.transpose(Image.Transpose.ROTATE_270)
        pixels = np.ascontiguousarray(np.asarray(crop)[:, :, ::-1])
        answer = self._ocr()(pixels, use_det=False, use_cls=False, use_rec=True)
        pairs = zip(answer.txts or (), answer.scores or (), strict=True)
        return any(score >= surely and sum(map(str.isalnum, text)) >= _LETTERS for text, score in pairs)

    def mask(self, image: Image.Image, boxes: list[Box]) -> Image.Image:
        """A copy in which each box, a little grown, has the colour of what surrounds it."""
        masked = image.copy()
        draw = ImageDraw.Draw(masked)
        for box in boxes:
            grown = _grown(box, image.size)
            draw.rectangle((grown[0], grown[1], grown[2] - 1, grown[3] - 1), fill=_surroundings(image, grown))
        return masked

    def clean(self, image: Image.Image) -> tuple[Image.Image, int, bool]:
        """The picture without its text, how many boxes were painted over, and whether nothing legible is left.

        All that the detector takes for text is painted over. Without the words it begins to see them in scales and
        arrows too, so what is left is judged by what can be read.
        """
        painted = 0
        for look, short_side in enumerate(_SHORT_SIDES, start=1):
            boxes = self.boxes(image, short_side)
            legible = boxes if look == 1 else [box for box in boxes if self.legible(image, box)]
            if look == len(_SHORT_SIDES):
                return image, painted, not legible
            image = self.mask(image, boxes) if boxes else image
            painted += len(boxes)
            if not legible:
                break
        return image, painted, True

    def _ocr(self) -> Any:
        if self._engine is None:
            import cv2
            from rapidocr import RapidOCR

            cv2.setNumThreads(1)
            self._engine = RapidOCR(
                params={
                    "Global.log_level": "critical",
                    "Global.use_cls": False,
                    # Sizes are chosen here: the library's own resizing has no upper limit for long pictures.
                    "Global.max_side_len": 100_000,
                    "Det.limit_side_len": 32,
                    "Det.box_thresh": _SEEN,
                    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                }
            )
        return self._engine


def _zoom(width: int, height: int, short_side: int) -> float:
    wanted = min(max(1.0, short_side / min(width, height)), _LARGEST_ZOOM)
    return float(min(wanted, (_MOST_PIXELS / (width * height)) ** 0.5))


def _inside(box: Box, size: tuple[int, int]) -> Box:
    return max(0, box[0]), max(0, box[1]), min(size[0], box[2]), min(size[1], box[3])


def _grown(box: Box, size: tuple[int, int]) -> Box:
    by = 1 + min(box[2] - box[0], box[3] - box[1]) // 8
    left, top = (box[0] - by) // _GRID * _GRID, (box[1] - by) // _GRID * _GRID
    right, bottom = -(-(box[2] + by) // _GRID) * _GRID, -(-(box[3] + by) // _GRID) * _GRID
    return _inside((left, top, right, bottom), size)


def _surroundings(image: Image.Image, box: Box) -> int | tuple[int, ...]:
    """The median of the rim around the box, channel by channel; black where the box fills the picture."""
    rim = _inside((box[0] - _GRID, box[1] - _GRID, box[2] + _GRID, box[3] + _GRID), image.size)
    around = Image.new("L", (rim[2] - rim[0], rim[3] - rim[1]), 255)
    around.paste(0, (box[0] - rim[0], box[1] - rim[1], box[2] - rim[0], box[3] - rim[1]))
    bands = len(image.getbands())
    if around.getbbox() is None:
        return 0 if bands == 1 else (0,) * bands
    median = tuple(int(value) for value in ImageStat.Stat(image.crop(rim), around).median)
    return median[0] if bands == 1 else median
