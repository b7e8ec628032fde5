"""Reading: the bytes of a file become clean, stored pictures. What cannot be read is an outcome, never a crash."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from medgr2.infra.images import ImageStore
from medgr2.infra.opening import open_store
from medgr2.infra.pictures.fingerprint import FINGERPRINT_VERSION
from medgr2.infra.pictures.reading import BrokenError, Reading, UnreadableError
from medgr2.infra.pictures.sandbox import Sandbox
from medgr2.infra.privacy import patient_hasher, patient_secret
from medgr2.infra.settings import Settings
from medgr2.infra.sources import SourceReader
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import NotFoundError, UsageError
from medgr2.schemas.intake import ReadingRules

STAGE = "ingest"
WORKER = "medgr2.tasks.intake.read:ReadWorker"
GROUP, GROUP_BYTES, GROUP_SECONDS = 512, 32 << 20, 3.0
HEADER = "dicom"
"""Source name under which patients of file headers are hashed."""


def reading_recipe(rules: ReadingRules, key_id: str) -> Recipe:
    """`key_id` names the patient key: with another key every file is read again, for other hashes and dates."""
    parameters: dict[str, Any] = {**rules.model_dump(mode="json"), "fingerprint": FINGERPRINT_VERSION, "key": key_id}
    return Recipe(stage=STAGE, code="4", parameters=parameters)


@dataclass
class _Group:
    """What is written together: one flush of the disk costs as much as all of these decodings."""

    outcomes: list[Outcome] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def is_full(self) -> bool:
        return (
            len(self.outcomes) >= GROUP
            or sum(map(len, self.pictures.values())) > GROUP_BYTES
            or time.monotonic() - self.since > GROUP_SECONDS
        )


class ReadWorker:
    """Reads what the cell names, in a child process, and stores the pictures."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        rules = {k: v for k, v in recipe.parameters.items() if k in ReadingRules.model_fields}
        self._rules = ReadingRules.model_validate(rules)
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)
        self._hashed = patient_hasher(settings)
        self._source = SourceReader(settings.storage)
        self._sandbox = Sandbox(self._rules, patient_secret(settings))

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        """In groups: the pictures of a group are durable before anybody hears of them."""
        early: list[Outcome] = []
        contents: dict[int, tuple[str, bytes]] = {}
        group = _Group()
        for number, answer in self._sandbox.read_many(self._bytes(cells, contents, early)):
            content, data = contents.pop(number)
            group.outcomes.append(self._outcome(cells[number], content, data, answer, group.pictures))
            if group.is_full():
                yield from self._settled(group)
                group = _Group()
        group.outcomes += early
        yield from self._settled(group)

    def _settled(self, group: _Group) -> list[Outcome]:
        self._images.put_all(group.pictures)
        return group.outcomes

    def _bytes(
        self, cells: Sequence[Cell], contents: dict[int, tuple[str, bytes]], early: list[Outcome]
    ) -> Iterator[tuple[int, bytes, str]]:
        for number, cell in enumerate(cells):
            try:
                data = self._source.read(cell.locator)
            except (OSError, NotFoundError, UsageError) as e:
                early.append(Outcome.failed(cell, "unreadable", type(e).__name__))
                continue
            content = sha256_hex(data)
            if cell.image and content != cell.image:
                early.append(Outcome.failed(cell, "changed_while_reading"))
                continue
            contents[number] = content, data
            yield number, data, str(cell.inputs.get("suffix", ""))

    def _outcome(
        self, cell: Cell, content: str, data: bytes, answer: Reading | UnreadableError, stored: dict[str, bytes]
    ) -> Outcome:
        if isinstance(answer, BrokenError):
            return Outcome.failed(cell, answer.reason, answer.detail)
        if isinstance(answer, UnreadableError):
            return Outcome.rejected(cell, answer.reason, detail=answer.detail)
        # A file that held nothing but its picture comes back as the very bytes that were sent.
        names = [content if picture.data is data else sha256_hex(picture.data) for picture in answer.pictures]
        stored.update((name, picture.data) for name, picture in zip(names, answer.pictures, strict=True))
        pictures = [
            {
                "image_id": name, "width": picture.width, "height": picture.height,
                "media_type": picture.media_type, "bytes": len(picture.data), "part": picture.part,
                "burned_in": picture.burned_in, "fingerprint": base64.b64encode(picture.fingerprint).decode(),
            }
            for name, picture in zip(names, answer.pictures, strict=True)
        ]  # fmt: skip
        value = {
            "content": content, "pictures": pictures, "modality": answer.modality, "anatomy": answer.anatomy,
            "patient": self._hashed(HEADER, answer.patient) if answer.patient else None,
            "number": answer.number or None,
            "study": self._hashed(f"{HEADER}/study", answer.study) if answer.study else None,
            "header": answer.header, "found": dict(answer.found), "left_out": dict(answer.left_out),
        }  # fmt: skip
        return Outcome.accepted(cell, value)
