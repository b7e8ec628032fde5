"""A driver for the kill tests: the base before a small exam, killed by itself at a step if it is told to.

python evaluate_driver.py ROOT [kill=after:3 | kill=evals-before]
"""

from __future__ import annotations

import io
import os
import signal
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
from PIL import Image
from stage_driver import DeadlyStore

from medgr2.infra import journal_writer
from medgr2.infra.images import ImageStore
from medgr2.infra.lake import Lake
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.infra.versions import publish, resolve
from medgr2.infra.workspace import Workspace
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks import examination
from medgr2.tasks.stage import say_plan

ITEMS = 12
OPTIONS = ("CT", "MRI", "OCT", "X-Ray")
# Small, so that there are several groups of answers to be killed between, however long the writer was kept waiting.
examination.BATCH = journal_writer.BACKLOG = 6


class DeadlyLake(Lake):
    kill = ""

    def append_new(self, table: str, rows: Any, *, key: str) -> int:
        if table == "evals" and self.kill == "evals-before":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().append_new(table, rows, key=key)


def set_exam(workspace: Workspace) -> None:
    now, ids = datetime(2026, 1, 1, tzinfo=UTC), []
    for number in range(ITEMS):
        pixels = np.random.default_rng(number).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        image_id = workspace.images.put(buffer.getvalue())
        image = {"image_id": image_id, "modality": OPTIONS[number % 4], "split": "heldout", "added_at": now}
        workspace.lake.append_new("images", [image | {"patient_key": f"p{number}"}], key="image_id")
        item = Item(
            image_id=image_id, question_type=QuestionType.MODALITY, question=f"Which modality is picture {number}?",
            options=OPTIONS, answer="ABCD"[number % 4], rationale="",
        )  # fmt: skip
        row = item.model_dump(mode="json") | {"item_id": item.item_id, "origin": "human", "added_at": now}
        workspace.lake.append_new("items", [row], key="item_id")
        ids.append(item.item_id)
    publish(workspace.lake, dataset="heldout", add=ids, card={}, run="exam")


def main() -> None:
    root, *rest = sys.argv[1:]
    kill = next((word.removeprefix("kill=") for word in rest), "")
    settings = Settings(storage=StorageSettings(root=root), compute=ComputeSettings.model_validate({"mode": "inline"}))
    quiet = DeadlyStore(root, "")
    lake = DeadlyLake(settings.storage)
    workspace = Workspace(
        settings=settings, store=quiet, lake=lake, images=ImageStore(quiet, settings.storage.cache_folder)
    )
    if not lake.read("versions").num_rows:
        set_exam(workspace)
    model = examination.find_model(workspace, "base")
    lake.kill = kill
    store = DeadlyStore(root, kill if ":" in kill else "")
    deadly = Workspace(settings=settings, store=store, lake=lake, images=workspace.images)
    heldout = resolve(lake, "heldout")
    examination.examine(deadly, model, heldout, run="exam", announce=say_plan, samples=2, count_failed=True)


if __name__ == "__main__":
    main()
