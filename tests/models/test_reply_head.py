"""On a CPU the reply alone is scored, and that is the same training."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from medgr2.models import sft
from medgr2.models.reply_head import reply_alone
from medgr2.models.sft import Example, SftSettings, train_sft

BASE = Path(__file__).parents[2] / "models" / "student"
SETTINGS = SftSettings(steps=3, batch=4, seed=5, learning_rate=1e-3)


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    picture = tmp_path / "one.png"
    Image.new("RGB", (32, 32), (90, 30, 60)).save(picture)
    asked = [f"Question: which of {'the ' * n}two?\nA) CT\nB) MRI" for n in range(6)]
    return [Example(picture, text, f"<answer>{'AB'[n % 2]}</answer>") for n, text in enumerate(asked)]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each step: places whose logits were made."""
    utils = importlib.import_module("trl.trainer.utils")
    seen: list[int] = []
    whole = utils._ChunkedLogProbFunction

    class Counting:
        @staticmethod
        def apply(hidden: torch.Tensor, *rest: Any) -> Any:
            seen.append(len(hidden))
            return whole.apply(hidden, *rest)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Counting)
    return seen


def test_the_reply_alone_is_scored_and_the_training_is_the_same(
    examples: list[Example], scored: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = train_sft(BASE, examples, tmp_path / "mine", SETTINGS)
    replies = scored.copy()
    scored.clear()
    monkeypatch.setattr(sft, "reply_alone", nullcontext)
    theirs = train_sft(BASE, examples, tmp_path / "theirs", SETTINGS)
    assert len(replies) == len(scored) == SETTINGS.steps
    assert all(few < many / 2 for few, many in zip(replies, scored, strict=True))
    assert mine["first_loss"] == pytest.approx(theirs["first_loss"], rel=1e-5)
    start, a, b = (load_file(path / "model.safetensors") for path in (BASE, tmp_path / "mine", tmp_path / "theirs"))
    moved = max(float((b[name] - start[name]).abs().max()) for name in b)
    assert moved > 1e-4
    assert max(float((a[name] - b[name]).abs().max()) for name in b) < moved / 100


def test_elsewhere_trl_decides_and_afterwards_everywhere() -> None:
    utils = importlib.import_module("trl.trainer.utils")
    own = utils._use_triton
    with reply_alone():
        assert utils._use_triton(torch.device("cpu"))
        assert not utils._use_triton(torch.device("meta"))
    assert utils._use_triton is own
    assert not own(torch.device("cpu"))
