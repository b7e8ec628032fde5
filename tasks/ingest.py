"""Ingest: a folder of images becomes rows of `images`. File names stay outside: they may tell the answer or a name."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.reports import StageReport
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.labels import Label, Labels
from medgr2.tasks.stage import Announce, StageRequest, run_and_record

RECIPE = Recipe(stage="ingest", code="1", parameters={"max_bytes": 64 << 20, "max_pixels": 64_000_000, "min_side": 16})
SIDECARS = {".csv", ".json", ".jsonl", ".parquet", ".md", ".txt"}
MEDIA = {"PNG": "image/png", "JPEG": "image/jpeg", "TIFF": "image/tiff", "WEBP": "image/webp", "BMP": "image/bmp"}


class IngestWorker:
    """Decodes what the cell names and stores it; what cannot be decoded is an outcome, never a crash."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._limits = recipe.parameters
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        return (self._take(cell) for cell in cells)

    def _take(self, cell: Cell) -> Outcome:
        if problem := cell.inputs.get("problem"):
            return Outcome.rejected(cell, problem)
        try:
            data = Path(cell.locator).read_bytes()
        except OSError as e:
            return Outcome.failed(cell, "unreadable", type(e).__name__)
        if sha256_hex(data) != cell.image:
            return Outcome.failed(cell, "changed_while_reading")
        if len(data) > int(str(self._limits["max_bytes"])):
            return Outcome.rejected(cell, "too_many_bytes")
        found = self._decode(cell, data)
        if isinstance(found, dict):
            self._images.put(data)
            return Outcome.accepted(cell, {**found, "bytes": len(data)})
        return found

    def _decode(self, cell: Cell, data: bytes) -> dict[str, Any] | Outcome:
        from PIL import Image

        limit = int(str(self._limits["max_pixels"]))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with Image.open(io.BytesIO(data), formats=tuple(MEDIA)) as image:
                    width, height = image.size
                    if width * height > limit:
                        return Outcome.rejected(cell, "too_many_pixels", detail=f"{width}x{height}")
                    if min(width, height) < int(str(self._limits["min_side"])):
                        return Outcome.rejected(cell, "too_small", detail=f"{width}x{height}")
                    if getattr(image, "n_frames", 1) > 1:
                        return Outcome.rejected(cell, "animated")
                    image.load()
                    return {"width": width, "height": height, "media_type": MEDIA[str(image.format)]}
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            return Outcome.rejected(cell, "too_many_pixels")
        except Exception as e:
            # Decoders raise whatever they like on broken bytes: all of it means the same to us.
            return Outcome.failed(cell, "undecodable", type(e).__name__)


def ingest(workspace: Workspace, source: Path, labels: Path | None, *, run: str, announce: Announce) -> StageReport:
    """Take every file of `source` that has a label. Run again, it costs only what is new."""
    known = Labels.read(labels or source / "labels.csv", workspace)
    cells: list[Cell] = []
    meant: dict[str, Label] = {}
    for path in _files(source):
        label = known.of(path.relative_to(source))
        image = sha256_hex(path.read_bytes())
        problem = known.problem(label, image)
        cells.append(RECIPE.cell(image=image, inputs={"problem": problem} if problem else {}, locator=str(path)))
        if label is not None and not problem:
            meant.setdefault(image, label)
    request = StageRequest(recipe=RECIPE, worker="medgr2.tasks.ingest:IngestWorker", batch_size=16, run=run)
    result = run_and_record(request, cells, workspace, announce)
    rows = [
        meant[cell.image].row(cell.image, outcome.value or {}, run)
        for cell in result.cells
        if (outcome := result.outcomes[cell.key]).verdict is Verdict.ACCEPTED
    ]
    workspace.lake.append_new("images", rows, key="image_id")
    return result.report


def _files(source: Path) -> Iterator[Path]:
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in SIDECARS:
            yield path
