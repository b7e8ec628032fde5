"""Pictures of a size, in a store as an ingest would leave them: what matters here is their weight."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medgr2.infra.images import ImageStore, image_key
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import GeneratorSettings, Settings
from medgr2.models.engines.http_body import Dialect
from medgr2.models.engines.seam import Request
from medgr2.models.styles import STYLES
from medgr2.schemas.cells import Cell
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.asking import want
from medgr2.tasks.drafting import recipe, request_of, style_of
from medgr2.tasks.stage_request import StageRequest

MAGIC = b"\x89PNG\r\n\x1a\n"
REPORT = "A round area of other brightness with a sharp border is seen. Nothing comparable on the other side."


def fill(root: Path, count: int, size: int) -> list[str]:
    """Image ids. The bytes are noise, as nobody but a model would decode them."""
    store = ImageStore(FolderStore(root), root / "cache")
    noise = random.Random(size)
    return [store.put(MAGIC + noise.randbytes(size - len(MAGIC))) for _ in range(count)]


def forget(root: Path) -> None:
    """The pictures stay, what was asked about them is asked again."""
    shutil.rmtree(root / "journal", ignore_errors=True)


def damage(root: Path, images: Sequence[str]) -> None:
    """Their bytes are no longer what their names say."""
    store = FolderStore(root)
    for image in images:
        path = store.local_path(image_key(image))
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"?")


def asked(images: Sequence[str], settings: Settings) -> tuple[StageRequest, Sequence[Cell]]:
    """One question about each picture, as the product asks it."""
    parameters = GenerateParameters(question_types=(QuestionType.DISEASE,))
    how = recipe(f"served:{settings.generator.model}", parameters, settings)
    wanted = want(_rows(images), how, style_of(parameters, settings), parameters)
    return request_of(how, settings, "bench"), wanted.cells


def body_of(image: str, root: Path) -> dict[str, Any]:
    """What is posted for a picture, as the engine builds it."""
    settings = Settings(generator=GeneratorSettings(engine="openai", url="http://127.0.0.1/v1", model="fake"))
    request, (cell,) = asked([image], settings)
    style = STYLES[str(request.recipe.parameters["style"])]
    text = request.recipe.prompt.format_map(cell.inputs)
    wanted = Request(
        FolderStore(root).local_path(image_key(image)),
        text,
        temperature=1.0,
        max_new_tokens=style.max_new_tokens,
        form=style.form,
    )
    body: dict[str, Any] = json.loads(Dialect("fake", set(), set()).body(wanted))
    return body


def _rows(images: Sequence[str]) -> Iterator[dict[str, str]]:
    for image in images:
        yield {
            "image_id": image,
            "split": "train",
            "modality": "CT",
            "anatomy": "chest",
            "labels": '{"diagnosis": "nodule"}',
            "report": REPORT,
        }
