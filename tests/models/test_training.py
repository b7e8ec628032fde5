"""Training is a function of its arguments: run again, or killed and run again, it gives equal bytes."""

from __future__ import annotations

import importlib
import json
import runpy
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import PROCESSES
from PIL import Image

from medgr2.models.checkpoints import latest_checkpoint, seal
from medgr2.models.training import RECORD, schedule
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, SettingsError

BASE = Path(__file__).parents[2] / "models" / "base"
DEADLINE = 240

PROGRAM = """
import json, os, signal, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from medgr2.models.grpo import GrpoSettings, Prompt, train_grpo
from medgr2.models.sft import Example, SftSettings, train_sft

def call_home(*_, **__):
    raise AssertionError("telemetry was sent")

os.environ.pop("CI", None)
import trl.trainer.base_trainer
trl.trainer.base_trainer.send_telemetry = call_home
job, writes, real = json.loads(JOB), 0, os.fsync

def fsync(handle):
    global writes
    writes += 1
    if writes == job["kill_at"]:
        os.kill(os.getpid(), signal.SIGKILL)
    real(handle)

os.fsync = fsync
images = sorted(Path(job["images"]).glob("*.png"))
ask = "Question: Which modality is this image? Options: A) CT B) MRI C) OCT D) X-Ray"
if job["method"] == "sft":
    examples = [Example(p, ask, f"<think>seen</think><answer>{'ABCD'[i % 4]}</answer>") for i, p in enumerate(images)]
    train_sft(Path(job["base"]), examples, Path(job["out"]), SftSettings(**job["settings"]))
else:
    prompts = [Prompt(p, ask, "ABCD"[i % 4], 4, 0.9) for i, p in enumerate(images)]
    train_grpo(Path(job["base"]), prompts, Path(job["out"]), GrpoSettings(**job["settings"]))
Path(job["out"] + ".writes").write_text(str(writes))
"""
SFT: dict[str, Any] = {"steps": 5, "batch": 4, "checkpoint_every": 2, "learning_rate": 1e-3}
GRPO: dict[str, Any] = {"steps": 3, "prompts": 2, "generations": 4, "checkpoint_every": 1, "learning_rate": 1e-3}
LORA: dict[str, Any] = {"lora": {"rank": 4}}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", SFT),
    "grpo": ("grpo", GRPO),
    "sft-lora": ("sft", SFT | LORA),
    "grpo-lora": ("grpo", GRPO | LORA),
    # With adapters the reference is a second adapter, without them a second model.
    "grpo-lora-kl": ("grpo", GRPO | LORA | {"beta": 0.04}),
    "grpo-kl": ("grpo", GRPO | {"beta": 0.04, "reward": "med-r1", "loss": "grpo", "scale": "group"}),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, size=(64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


class Runs:
    def __init__(self, root: Path, images: Path) -> None:
        self.root, self.images = root, images
        self.program = root / "program.py"
        self.program.write_text(PROGRAM)

    def run(self, name: str, method: str, settings: dict[str, Any], kill_at: int = 0, base: Path = BASE) -> int:
        """The exit code of a process that trains into `name`; it kills itself at its n-th flush to disk."""
        job = {
            "method": method, "base": str(base), "images": str(self.images), "out": str(self.root / name),
            "settings": settings, "kill_at": kill_at,
        }  # fmt: skip
        arguments = (str(self.program), {"JOB": json.dumps(job)})
        process = PROCESSES.Process(target=runpy.run_path, args=arguments)
        process.start()
        process.join(DEADLINE)
        assert process.exitcode is not None, f"still training after {DEADLINE} s"
        return process.exitcode

    def files(self, name: str) -> dict[str, str]:
        return {p.name: sha256_hex(p.read_bytes()) for p in sorted((self.root / name).iterdir())}

    def writes(self, name: str) -> int:
        return int((self.root / f"{name}.writes").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), images)


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> Runs:
    for name, (method, settings) in KINDS.items():
        assert runs.run(name, method, settings) == 0
    return runs


def test_again_is_the_same_bytes_and_another_seed_is_not(undisturbed: Runs) -> None:
    assert undisturbed.run("again", "sft", SFT) == 0
    assert undisturbed.files("again") == undisturbed.files("sft")
    assert undisturbed.run("other", "sft", SFT | {"seed": 1}) == 0
    assert undisturbed.files("other")["model.safetensors"] != undisturbed.files("sft")["model.safetensors"]


def test_the_folder_is_the_base_with_other_weights(undisturbed: Runs) -> None:
    base = {p.name: sha256_hex(p.read_bytes()) for p in BASE.iterdir()}
    for name in KINDS:
        made = undisturbed.files(name)
        assert made.keys() == base.keys() | {RECORD}
        assert {n for n in base if made[n] != base[n]} == {"model.safetensors"}
        assert not (undisturbed.root / f"{name}.work").exists()


EVERYWHERE, ONCE = (0.0, 0.3, 0.5, 0.75, 1.0), (0.75,)


@pytest.mark.crash
@pytest.mark.parametrize(
    ("kind", "share"),
    [(kind, share) for kind in KINDS for share in (EVERYWHERE if kind in ("sft", "grpo") else ONCE)],
)
def test_killed_and_run_again_is_the_same_bytes(undisturbed: Runs, kind: str, share: float) -> None:
    """From the first flush, before any checkpoint counts, to the last, when the model has just got its name."""
    method, settings = KINDS[kind]
    name, last = f"{kind}-{share}", undisturbed.writes(kind)
    assert undisturbed.run(name, method, settings, kill_at=max(1, round(share * last))) == -signal.SIGKILL
    assert undisturbed.run(name, method, settings) == 0
    assert undisturbed.files(name) == undisturbed.files(kind)
    # Work that was sealed is not done again: fewer flushes are left the later the kill.
    assert undisturbed.writes(name) <= last
    if share > 0.5:
        assert undisturbed.writes(name) < last


def test_adapters_move_the_linear_weights_and_are_merged_into_them(undisturbed: Runs) -> None:
    from safetensors.numpy import load_file

    base = load_file(BASE / "model.safetensors")
    for kind in ("sft-lora", "grpo-lora", "grpo-lora-kl"):
        made = load_file(undisturbed.root / kind / "model.safetensors")
        assert made.keys() == base.keys()
        moved = {name for name in base if not np.array_equal(base[name], made[name])}
        assert moved
        assert not {name for name in moved if "embed" in name or "norm" in name or base[name].ndim != 2}
        record = json.loads((undisturbed.root / kind / RECORD).read_text())
        assert record["trained"] < sum(weights.size for weights in base.values()) / 10


def test_a_finished_training_is_not_run_again(undisturbed: Runs) -> None:
    assert undisturbed.run("sft", "sft", SFT) == 0
    assert undisturbed.writes("sft") == 0
    (undisturbed.root / "sft.writes").unlink()


@pytest.mark.parametrize(
    ("change", "least"),
    [
        ({"gradient_checkpointing": True}, 0.9999),
        ({"accumulation": 2, "batch": 2}, 0.999),
        ({"precision": "bfloat16"}, 0.9),
    ],
)
def test_what_saves_memory_changes_only_rounding(undisturbed: Runs, change: dict[str, Any], least: float) -> None:
    """The weights move in the same direction (cosine over all of them), and stay float32."""
    from safetensors.numpy import load_file

    name = "-".join(change)
    assert undisturbed.run(name, "sft", SFT | change) == 0
    base, lean, plain = (
        load_file(f / "model.safetensors") for f in (BASE, undisturbed.root / name, undisturbed.root / "sft")
    )
    a, b = (np.concatenate([(m[t] - base[t]).ravel() for t in sorted(base)]) for m in (lean, plain))
    assert a.dtype == np.float32
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > least


@pytest.mark.parametrize(("change", "why"), [({"temperature": 0.001}, "constant"), ({"longest": 3}, "never ended")])
def test_practice_that_teaches_nothing_ends_with_the_reason_and_no_model(
    images: Path, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    """At a temperature near zero every reply of a group is the same; cut off after three tokens none has an end."""
    from medgr2.models.grpo import GrpoSettings, Prompt, train_grpo

    asked = "Question: Which modality is this image? Options: A) CT B) MRI C) OCT D) X-Ray"
    prompts = [Prompt(path, asked, "A", 4, 0.9) for path in sorted(images.glob("*.png"))]
    with pytest.raises(DataError, match=why):
        train_grpo(BASE, prompts, tmp_path / "out", GrpoSettings(**(GRPO | change)))
    assert not (tmp_path / "out").exists()


def test_a_row_that_does_not_fit_is_left_out_and_named(images: Path, tmp_path: Path) -> None:
    from medgr2.models.sft import Example, SftSettings, train_sft

    fits = [Example(path, "Question", "<answer>A</answer>") for path in sorted(images.glob("*.png"))] * 3
    long = Example(images / "0.png", "so " * 600, "<answer>A</answer>", item="feed")
    record = train_sft(BASE, [*fits, long], tmp_path / "out", SftSettings(steps=1, batch=2))
    assert record["examples"] == len(fits)
    assert list(record["left_out"]) == ["feed"]
    assert "of 512 tokens" in record["left_out"]["feed"]


def test_the_schedule_keeps_shares_and_visits_all_before_any_twice() -> None:
    even = schedule([1.0] * 10, 35, seed=3)
    assert sorted(even[:10]) == sorted(even[10:20]) == list(range(10))
    assert even[:10] != even[10:20]
    skewed = Counter(schedule([0.7, 0.1, 0.1, 0.1], 1000, seed=3))
    assert [round(skewed[i] / 1000, 2) for i in range(4)] == [0.7, 0.1, 0.1, 0.1]
    early = Counter(schedule([0.7, 0.1, 0.1, 0.1], 1000, seed=3)[:50])
    assert 33 <= early[0] <= 37
    assert 1 not in schedule([1.0, 0.0, 1.0], 100, seed=0)


def test_a_gpu_that_is_not_there_is_said_so(images: Path, tmp_path: Path) -> None:
    from medgr2.models.sft import Example, SftSettings, train_sft

    if importlib.import_module("torch").cuda.is_available():
        pytest.skip("this machine has a GPU")
    example = Example(images / "0.png", "Question", "<answer>A</answer>")
    with pytest.raises(SettingsError, match="sees none"):
        train_sft(BASE, [example], tmp_path / "out", SftSettings(device="cuda"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, float("nan")], [1.0, -1.0]])
def test_a_schedule_of_nothing_is_refused(weights: list[float]) -> None:
    with pytest.raises(DataError):
        schedule(weights, 10, seed=0)


def test_a_cut_or_unsealed_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (2, 4, 10):
        writing = tmp_path / f"writing-{step}" / "checkpoint"
        writing.mkdir(parents=True)
        (writing / "weights").write_bytes(b"x" * 100)
        seal(writing, tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-12").mkdir()
    (tmp_path / "checkpoint-12" / "weights").write_bytes(b"x" * 100)
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-10" / "weights").write_bytes(b"x" * 99)
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert latest_checkpoint(tmp_path / "nowhere") is None
