"""A worker that trains a small model by any of the three methods, and does so slowly where it is told to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medgr2.infra import notice
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.models import crew
from medgr2.models.grpo import GrpoSettings, Prompt, train_grpo
from medgr2.models.judging import Claim
from medgr2.models.reward_training import RewardExample, RewardSettings, train_reward
from medgr2.models.sft import Example, SftSettings, train_sft
from medgr2.models.watch import Watch
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.tasks.training_cell import train_once

BASE = Path(__file__).parents[2] / "models" / "base"
ASK = "Question: Which modality is this image? Options: A) CT B) MRI C) OCT D) X-Ray"
BEATS = "TEST_BEATS"
"""The file that gets a line a step."""


def pictures(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.png" for i in range(8)]
    for i, path in enumerate(paths):
        if not path.exists():
            pixels = np.random.default_rng(i).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return paths


def train(method: str, shown: Sequence[Path], out: Path, settings: dict[str, Any], base: Path = BASE) -> dict[str, Any]:
    if method == "sft":
        examples = [
            Example(p, ASK, f"<think>seen</think><answer>{'ABCD'[i % 4]}</answer>") for i, p in enumerate(shown)
        ]
        return train_sft(base, examples, out, SftSettings(**settings))
    if method == "grpo":
        prompts = [Prompt(p, ASK, "ABCD"[i % 4], 4, 0.9) for i, p in enumerate(shown)]
        return train_grpo(base, prompts, out, GrpoSettings(**settings))
    claims = [Claim(p, "What is it?", ("dark", "bright"), "AB"[i % 2], "It is so.") for i, p in enumerate(shown)]
    return train_reward(base, [RewardExample(c, i % 2) for i, c in enumerate(claims)], out, RewardSettings(**settings))


class Trains:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._job: dict[str, Any] = dict(recipe.parameters)
        self._settings = settings

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        return (self._one(cell) for cell in cells)

    def _one(self, cell: Cell) -> Outcome:
        shown = pictures(Path(self._settings.storage.root) / "pictures")
        work = (self._job["method"], shown)
        Watch.beat = slow(Watch.beat)  # type: ignore[method-assign]
        crew.MEMBER = "slow_member"
        store = open_store(self._settings.storage)
        return train_once(cell, self._settings, store, lambda: lambda out: train(*work, out, self._job["settings"]))


def slow(beat: Callable[[Watch], None]) -> Callable[[Watch], None]:
    """At the beat TEST_HOLD it waits until it is told to stop. From the beat TEST_FROM on it pauses, as if it had stood
    still for TEST_STOOD seconds before."""

    def slowly(watch: Watch) -> None:
        beat(watch)
        with Path(os.environ[BEATS]).open("a") as log:
            log.write(f"{os.getpid()}\n")
        beats = len(Path(os.environ[BEATS]).read_text().splitlines())
        if beats == int(os.environ.get("TEST_KILL_AT", "0")):
            os.kill(os.getpid(), signal.SIGKILL)
        if beats == int(os.environ.get("TEST_HOLD", "0")):
            while not notice.given():
                time.sleep(0.02)
        if beats >= int(os.environ.get("TEST_FROM", "0")):
            pause = float(os.environ.get("TEST_PAUSE", "0"))
            watch._last -= float(os.environ.get("TEST_STOOD", "0"))
            time.sleep(pause)

    return slowly
