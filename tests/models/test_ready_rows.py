"""Batches of rows that were made ready before are the trainer's own, tensor for tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from medgr2.models.ready_rows import ReadyRows

BASE = Path(__file__).parents[2] / "models" / "base"
OPTIONS = ("A) CT B) MRI C) OCT D) X-Ray", "A) nodule B) cyst", "A) upper left B) lower left C) nowhere")


def read(row: int) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"Question: Which is it? Options: {OPTIONS[row % 3]}"}],
        "completion": [{"role": "assistant", "content": f"<think>{'seen, ' * row}</think><answer>A</answer>"}],
        "images": [Image.new("RGB", (64, 64), (30 * row, 80, 120))],
    }


@pytest.fixture(scope="module")
def collate() -> Callable[[list[dict[str, Any]]], Any]:
    from transformers import AutoProcessor
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    processor = AutoProcessor.from_pretrained(BASE, local_files_only=True)
    return DataCollatorForVisionLanguageModeling(processor, max_length=None, completion_only_loss=True)


def same(mine: Any, theirs: Any) -> None:
    assert set(mine) == set(theirs)
    for name in theirs:
        assert mine[name].dtype == theirs[name].dtype, name
        assert torch.equal(mine[name], theirs[name]), name


def test_a_batch_of_ready_rows_is_the_trainers_own(collate: Any) -> None:
    asked = Counter[int]()

    def counted(row: int) -> dict[str, Any]:
        asked[row] += 1
        return read(row)

    ready = ReadyRows(counted)
    batch = ready.of(collate, collate.processor.tokenizer.pad_token_id)
    for rows in ([0, 3, 1, 5], [5, 2, 2, 0], [4], [1, 0, 3, 4, 5]):
        same(batch([ready.row(row) for row in rows]), collate([read(row) for row in rows]))
    assert {row: n for row, n in asked.items() if n > 1} == {2: 2}  # twice in the batch that made it ready


def test_pictures_of_several_sizes_are_made_ready_one_by_one(collate: Any) -> None:
    def of_sizes(row: int) -> dict[str, Any]:
        return read(row) | {"images": [Image.new("RGB", (64, 32 + 16 * row), (30 * row, 80, 120))]}

    ready = ReadyRows(of_sizes)
    batch = ready.of(collate, collate.processor.tokenizer.pad_token_id)
    for rows in ([0, 3, 1], [1, 2, 0], [2, 2, 3, 1]):
        same(batch([ready.row(row) for row in rows]), collate([of_sizes(row) for row in rows]))


def test_a_small_room_forgets_rows_and_changes_nothing(collate: Any) -> None:
    ready = ReadyRows(read, room=1)
    batch = ready.of(collate, collate.processor.tokenizer.pad_token_id)
    for rows in ([0, 1], [0, 1, 0], [1, 0, 1]):
        same(batch([ready.row(row) for row in rows]), collate([read(row) for row in rows]))


def test_pictures_of_several_shapes_go_to_the_trainer_together() -> None:
    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        widest = max(row["images"][0] for row in rows)
        words = torch.zeros(len(rows), 2, dtype=torch.long)
        return {"input_ids": words, "attention_mask": words + 1, "pixel_values": torch.ones(len(rows), widest)}

    ready = ReadyRows(lambda row: {"prompt": [], "completion": [], "images": [row]})
    batch = ready.of(collate, 0)
    assert batch([ready.row(3), ready.row(5)])["pixel_values"].shape == (2, 5)
    assert batch([ready.row(3), ready.row(5)])["pixel_values"].shape == (2, 5)
