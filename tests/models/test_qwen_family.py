"""The family that the published recipes name: trained by the real trainers, in full and by adapters, and told apart."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qwen_family import processor, save_model

from medgr2.models.chat_check import open_processor
from medgr2.models.grpo import GrpoSettings, Prompt, train_grpo
from medgr2.models.row_budget import Row, RowBudget
from medgr2.models.sft import Example, SftSettings, train_sft

ASKED = "Question: Which modality is this image? Options: A) CT B) MRI C) OCT D) X-Ray"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen") / "model"
    save_model(folder)
    return folder


@pytest.fixture(autouse=True)
def no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.import_module("transformers").AutoProcessor, "from_pretrained", lambda *_, **__: processor()
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 256, size=(56 + 28 * (i % 3), 84, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def taught(base: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It knows the form of an answer and nothing else: the letters are the pictures' by number."""
    out = tmp_path_factory.mktemp("taught") / "model"
    with pytest.MonkeyPatch.context() as patch:
        library = importlib.import_module("transformers")
        patch.setattr(library.AutoProcessor, "from_pretrained", lambda *_, **__: processor())
        examples = [Example(p, ASKED, f"<answer>{'ABCD'[i % 4]}</answer>") for i, p in enumerate(pictures)]
        record = train_sft(base, examples, out, SftSettings(steps=50, batch=8, learning_rate=5e-3))
    assert record["last_loss"] < record["first_loss"] / 100
    assert record["left_out"] == {}
    return out


def test_its_chat_has_all_that_a_training_needs(base: Path) -> None:
    open_processor(base)


def test_what_a_picture_takes_of_the_budget_goes_by_its_shape(base: Path, pictures: list[Path]) -> None:
    rows = [Row(p.stem, p, ASKED, 10) for p in pictures]
    budget = RowBudget(base)
    assert budget.unfit(rows) == {}
    assert budget._expanded == {(56, 84): 6, (84, 84): 4, (112, 84): 6}  # eight at most


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta": 0.04, "reward": "paper", "loss": "grpo", "scale": "group"},
        {"beta": 0.04, "reward": "med-r1", "loss": "grpo", "scale": "group", "lora": {"rank": 4}},
    ],
    ids=["default", "paper", "med-r1 by adapters"],
)
def test_it_practises_by_each_recipe(
    taught: Path, pictures: list[Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = GrpoSettings(steps=2, prompts=4, generations=8, style="no-think", temperature=1.3, longest=20, **changes)
    prompts = [Prompt(p, ASKED, "ABCD"[i % 4], 4, 0.9) for i, p in enumerate(pictures)]
    record = train_grpo(taught, prompts, tmp_path / "out", settings)
    assert record["never_ended"] < 0.5
    load = importlib.import_module("safetensors.numpy").load_file
    before, after = (load(folder / "model.safetensors") for folder in (taught, tmp_path / "out"))
    assert after.keys() == before.keys()
    assert any(not np.array_equal(before[name], after[name]) for name in before)


def test_its_adapters_are_merged(base: Path, pictures: list[Path], tmp_path: Path) -> None:
    settings = SftSettings(steps=2, batch=4, learning_rate=5e-3, lora={"rank": 4})  # type: ignore[arg-type]
    record = train_sft(base, [Example(p, ASKED, "<answer>A</answer>") for p in pictures], tmp_path / "out", settings)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "model.safetensors" in names
    assert not any("adapter" in name for name in names)
    assert record["trained"] < 20_000
