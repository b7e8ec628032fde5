"""Killed at every point that leaves something behind, by name, and run again: the same bytes as undisturbed.

SFT, GRPO and reward training, also with several micro-batches a step and with dropout, whose randomness is saved.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import PROCESSES
from PIL import Image

from medgr2.models.care import Care, under
from medgr2.models.exactness import NOTE, environment, fits, refuse_inexact, refuse_strange_launch
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import SettingsError

BASE = Path(__file__).parents[2] / "models" / "base"
DEADLINE = 240

PROGRAM = """
import json, os, signal, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
job = json.loads(JOB)
sys.path.insert(0, job["helpers"])
from training_workers import train
from medgr2.models import checkpoints, training
from medgr2.models.watch import Watch

def cut(owner, name, nth, before):
    real, calls = getattr(owner, name), []
    def cutting(*args, **more):
        if owner is checkpoints.shutil and "checkpoint-" not in str(args[0]):
            return real(*args, **more)
        calls.append(1)
        if before and len(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        done = real(*args, **more)
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    setattr(owner, name, cutting)

owners = {"watch": Watch, "checkpoints": checkpoints, "files": checkpoints.shutil, "training": training}
if job["cut"]:
    owner, name, nth, before = job["cut"]
    cut(owners[owner], name, nth, before)
train(job["method"], sorted(Path(job["images"]).glob("*.png")), Path(job["out"]), job["settings"], Path(job["base"]))
"""
# Of a training of six steps with a checkpoint after every second: a beat before the first step, and one after each.
CUTS: dict[str, tuple[str, str, int, bool]] = {
    "before the first step": ("watch", "beat", 1, True),
    "before the first checkpoint": ("watch", "beat", 2, True),
    "a checkpoint is written and not sealed": ("checkpoints", "seal", 2, True),
    "a checkpoint is sealed and has no name": ("checkpoints", "rename_whole", 2, True),
    "a checkpoint has just got its name": ("checkpoints", "rename_whole", 2, False),
    "between two checkpoints": ("watch", "beat", 4, False),
    "an old checkpoint is being removed": ("files", "rmtree", 1, True),
    "after the last step": ("watch", "beat", 8, False),
    "the model is written and has no name": ("training", "rename_whole", 1, True),
    "the model has just got its name": ("training", "rename_whole", 1, False),
}
SFT: dict[str, Any] = {"steps": 6, "batch": 2, "checkpoint_every": 2, "learning_rate": 1e-3}
GRPO: dict[str, Any] = {"steps": 6, "prompts": 2, "generations": 4, "checkpoint_every": 2, "learning_rate": 1e-3}
REWARD: dict[str, Any] = SFT | {"warmup_steps": 0}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", SFT),
    "grpo": ("grpo", GRPO),
    "reward": ("reward", REWARD),
    "sft-accumulated": ("sft", SFT | {"accumulation": 2}),
    "grpo-accumulated": ("grpo", GRPO | {"accumulation": 2, "temperature": 2.0}),
    "reward-accumulated": ("reward", REWARD | {"accumulation": 2}),
    "reward-lora-accumulated": ("reward", REWARD | {"accumulation": 2, "lora": {"rank": 4}}),
    "sft-dropout": ("sft", SFT),
    "grpo-dropout": ("grpo", GRPO),
}


class Runs:
    def __init__(self, root: Path) -> None:
        self.root, self.images, self.wet = root, root / "images", root / "dropout"
        self.images.mkdir()
        rng = np.random.default_rng(1)
        for i in range(8):
            pixels = rng.integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.images / f"{i}.png")
        shutil.copytree(BASE, self.wet)
        config = json.loads((self.wet / "config.json").read_text())
        config["text_config"]["attention_dropout"] = 0.2
        (self.wet / "config.json").write_text(json.dumps(config))
        self.program = root / "program.py"
        self.program.write_text(PROGRAM)
        self._whole: dict[str, dict[str, str]] = {}

    def run(self, name: str, kind: str, cut: str = "", **change: Any) -> int:
        method, settings = KINDS[kind]
        job = {
            "method": method, "images": str(self.images), "out": str(self.root / name), "settings": settings | change,
            "cut": CUTS.get(cut), "base": str(self.wet if "dropout" in kind else BASE),
            "helpers": str(Path(__file__).parents[1] / "crash"),
        }  # fmt: skip
        process = PROCESSES.Process(target=runpy.run_path, args=(str(self.program), {"JOB": json.dumps(job)}))
        process.start()
        process.join(DEADLINE)
        assert process.exitcode is not None, f"still training after {DEADLINE} s"
        return process.exitcode

    def files(self, name: str) -> dict[str, str]:
        return {p.name: sha256_hex(p.read_bytes()) for p in sorted((self.root / name).iterdir())}

    def undisturbed(self, kind: str) -> dict[str, str]:
        if kind not in self._whole:
            assert self.run(kind, kind) == 0
            self._whole[kind] = self.files(kind)
        return self._whole[kind]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.mark.crash
@pytest.mark.parametrize("cut", list(CUTS))
@pytest.mark.parametrize("kind", ["sft", "grpo", "reward"])
def test_killed_when(runs: Runs, kind: str, cut: str) -> None:
    name = f"{kind}, {cut}"
    assert runs.run(name, kind, cut) == -signal.SIGKILL
    assert runs.run(name, kind) == 0
    assert runs.files(name) == runs.undisturbed(kind)
    assert not (runs.root / f"{name}.work").exists()


@pytest.mark.crash
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "-" in kind])
def test_killed_between_checkpoints_also_with(runs: Runs, kind: str) -> None:
    """Micro-batches of one step share its generation, and what dropout drops is part of what is saved."""
    assert runs.undisturbed(kind)["model.safetensors"] != runs.undisturbed(kind.split("-")[0])["model.safetensors"]
    # Micro-batches beat as well.
    CUTS["in between"] = ("watch", "beat", 8 if "accumulated" in kind else 4, False)
    assert runs.run(f"{kind}-cut", kind, "in between") == -signal.SIGKILL
    assert list((runs.root / f"{kind}-cut.work").glob("checkpoint-*"))
    assert runs.run(f"{kind}-cut", kind) == 0
    assert runs.files(f"{kind}-cut") == runs.undisturbed(kind)


@pytest.mark.crash
def test_other_settings_do_not_go_on_from_its_checkpoints(runs: Runs) -> None:
    """A checkpoint every step instead is no other training; another rate of learning is, and is refused."""
    assert runs.run("mixed", "sft", "between two checkpoints") == -signal.SIGKILL
    before = sorted((runs.root / "mixed.work").iterdir())
    assert runs.run("mixed", "sft", learning_rate=2e-3) == 1
    assert sorted((runs.root / "mixed.work").iterdir()) == before
    assert runs.run("mixed", "sft", checkpoint_every=1) == 0
    assert runs.files("mixed")["model.safetensors"] == runs.undisturbed("sft")["model.safetensors"]


def test_a_checkpoint_of_another_environment_is_refused_or_dropped(tmp_path: Path) -> None:
    here = environment("cpu")
    (tmp_path / NOTE).write_text(json.dumps(here))
    assert fits(tmp_path, here, anew=False)
    for name, other in (("torch", "2.12.0"), ("threads", "999"), ("processes", "2"), ("machine", "another")):
        (tmp_path / NOTE).write_text(json.dumps(here | {name: other}))
        with pytest.raises(SettingsError, match=re.escape(f"{name} was {other}, is {here[name]}")) as refused:
            fits(tmp_path, here, anew=False)
        assert "MEDGR2_TRAINING__RESUME=anew" in refused.value.next_command
        assert not fits(tmp_path, here, anew=True)
    for broken in ("", "[]", '"torch"'):
        (tmp_path / NOTE).write_text(broken)
        with pytest.raises(SettingsError, match="not told"):
            fits(tmp_path, here, anew=False)
    (tmp_path / NOTE).unlink()
    with pytest.raises(SettingsError, match="not told"):
        fits(tmp_path, here, anew=False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"steps_per_generation": 2}, "share one generation"),
        ({"num_iterations": 2}, "share one generation"),
        ({"use_vllm": True}, "not saved"),
        ({"save_only_model": True}, "without optimizer"),
        ({"ignore_data_skip": True}, "first rows again"),
    ],
)
def test_settings_that_would_make_it_inexact_are_refused(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    from trl import GRPOConfig

    plain = {"output_dir": str(tmp_path), "per_device_train_batch_size": 8, "use_cpu": True, "bf16": False}
    refuse_inexact(GRPOConfig(**plain), "default", 1)
    refuse_inexact(GRPOConfig(**plain, gradient_accumulation_steps=2), "sdpa", 2)
    with pytest.raises(SettingsError, match=why) as refused:
        refuse_inexact(GRPOConfig(**plain, **change), "default", 1)
    assert "exact off" in refused.value.next_command
    with pytest.raises(SettingsError, match="FlashAttention"):
        refuse_inexact(GRPOConfig(**plain), "flash_attention_2", 1)


def test_a_strange_launcher_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(SettingsError, match="depend on the memory"):
        refuse_inexact(TrainingArguments(str(tmp_path), use_cpu=True, auto_find_batch_size=True), "default", 1)
    refuse_inexact(arguments, "default", 1)
    refuse_strange_launch()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="each would train the whole model") as refused:
        refuse_strange_launch()
    assert "MEDGR2_TRAINING__PROCESSES=2" in refused.value.next_command
    with under(Care(processes=2, member=True)):
        refuse_strange_launch()


@pytest.mark.crash
def test_nothing_in_a_checkpoint_can_run_code_when_it_is_read(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that somebody exchanged for a program is refused by the reader, and the program does not run."""
    import pickle

    assert runs.run("planted", "sft", "between two checkpoints") == -signal.SIGKILL
    (checkpoint,) = (runs.root / "planted.work").glob("checkpoint-*")
    assert not {
        p.name for p in checkpoint.iterdir() if p.suffix not in {".json", ".safetensors", ".pt", ".pth", ".jinja"}
    }
    trap = runs.root / "sprung"

    class Trap:
        def __reduce__(self) -> Any:
            return (os.system, (f"touch {trap}",))

    sealed = json.loads((checkpoint / "complete.json").read_text())
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        data = pickle.dumps(Trap())
        (checkpoint / name).write_bytes(data)
        sealed[name] = len(data)
    (checkpoint / "complete.json").write_text(json.dumps(sealed))
    assert runs.run("planted", "sft") == 1
    assert not trap.exists()
