"""How often checkpoints are written changes nothing; and who need not be exact goes on elsewhere, and is told so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgr2.models import sft
from medgr2.models.checkpoints import latest_checkpoint, step_of
from medgr2.models.exactness import NOTE, WENT_ON, environment, fits, went_on
from medgr2.models.grpo import GrpoSettings, Prompt, train_grpo
from medgr2.models.sft import Example, SftSettings, train_sft
from medgr2.models.training import RECORD
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import SettingsError

BASE = Path(__file__).parents[2] / "models" / "base"
ASK = "Question: Which modality is this image? Options: A) CT B) MRI C) OCT D) X-Ray"
HERE = {"torch": "2.13", "machine": "x86_64 AVX2", "settings": "abc", "processes": "1"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3)
    paths = [folder / f"{i}.png" for i in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    return paths


def learn(pictures: list[Path], out: Path, **changes: Any) -> dict[str, Any]:
    examples = [Example(p, ASK, f"<think>seen</think><answer>{'ABCD'[i % 4]}</answer>") for i, p in enumerate(pictures)]
    how = {"steps": 4, "batch": 2, "checkpoint_every": 1, "learning_rate": 1e-3}
    return train_sft(BASE, examples, out, SftSettings.model_validate(how | changes))


def practise(pictures: list[Path], out: Path, **changes: Any) -> dict[str, Any]:
    prompts = [Prompt(p, ASK, "ABCD"[i % 4], 4, 0.9) for i, p in enumerate(pictures)]
    how = {"steps": 3, "prompts": 2, "generations": 4, "learning_rate": 1e-3}
    return train_grpo(BASE, prompts, out, GrpoSettings.model_validate(how | changes))


@pytest.mark.parametrize("train", [learn, practise])
def test_checkpoints_change_nothing_of_what_comes_out(
    pictures: list[Path], tmp_path: Path, train: Callable[..., dict[str, Any]]
) -> None:
    """Or it would have to be part of the key of a training."""
    made = []
    for every in (1, 100):
        train(pictures, tmp_path / str(every), checkpoint_every=every)
        made.append({p.name: sha256_hex(p.read_bytes()) for p in (tmp_path / str(every)).iterdir()})
    assert made[0] == made[1]
    assert "model.safetensors" in made[0]


def cut(pictures: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Path:
    """A training that fell over on its way. Its last checkpoint is said to have been made with another torch."""
    read, count = sft.read_image, 0

    def fails(path: Path) -> Any:
        nonlocal count
        count += 1
        if count > 6:
            raise OSError
        return read(path)

    with monkeypatch.context() as broken:
        broken.setattr(sft, "read_image", fails)
        with pytest.raises(OSError):
            learn(pictures, out, **changes)
    checkpoint = latest_checkpoint(out.with_name(out.name + ".work"))
    assert checkpoint is not None
    note = checkpoint / NOTE
    told = json.loads(note.read_text())
    # As long as the true one: the seal of a checkpoint holds the sizes of its files.
    other = told["torch"][:-1] + ("0" if told["torch"][-1] != "0" else "1")
    note.write_text(json.dumps(told | {"torch": other}, sort_keys=True))
    return checkpoint


def test_elsewhere_a_training_that_need_not_be_exact_goes_on_and_its_record_says_so(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = step_of(cut(pictures, tmp_path / "out", monkeypatch, exact=False))
    record = learn(pictures, tmp_path / "out", exact=False)
    assert record[WENT_ON].startswith(f"from step {step}: torch was ")
    assert record[WENT_ON] in caplog.text
    assert json.loads((tmp_path / "out" / RECORD).read_text())[WENT_ON] == record[WENT_ON]
    assert WENT_ON not in learn(pictures, tmp_path / "undisturbed", exact=False)


def test_elsewhere_an_exact_training_is_refused(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = cut(pictures, tmp_path / "out", monkeypatch)
    with pytest.raises(SettingsError, match="torch was"):
        learn(pictures, tmp_path / "out")
    assert checkpoint.is_dir()


def test_what_is_tolerated_is_another_machine_and_not_another_recipe(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-50"
    checkpoint.mkdir()
    note = checkpoint / NOTE

    def made(**other: str) -> None:
        note.write_text(json.dumps(HERE | other))

    made(torch="2.12", machine="aarch64")
    assert fits(checkpoint, HERE, anew=False, exact=False)
    assert not fits(checkpoint, HERE, anew=True, exact=False), "who asks for a new beginning gets one"
    assert went_on(checkpoint, HERE) == (
        "from step 50: torch was 2.12, is 2.13; from step 50: machine was aarch64, is x86_64 AVX2"
    )
    for name in ("settings", "processes", "sharding"):
        made(**{name: "another"})
        with pytest.raises(SettingsError, match=f"{name} was another"):
            fits(checkpoint, HERE, anew=False, exact=False)
    note.unlink()
    with pytest.raises(SettingsError, match="not told"):
        fits(checkpoint, HERE, anew=False, exact=False)


def test_what_was_told_once_is_told_to_the_end(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-70"
    checkpoint.mkdir()
    (checkpoint / NOTE).write_text(json.dumps(HERE | {WENT_ON: "from step 50: torch was 2.12, is 2.13"}))
    assert fits(checkpoint, HERE, anew=False)
    assert went_on(checkpoint, HERE) == "from step 50: torch was 2.12, is 2.13"
    moved = HERE | {"torch": "2.14"}
    assert went_on(checkpoint, moved).endswith("is 2.13; from step 70: torch was 2.13, is 2.14")


def test_here_is_as_here() -> None:
    assert environment("cpu") == environment("cpu")
