"""A reward model learns from claims in either form, whole or by adapters; killed and run again: the same bytes."""

from __future__ import annotations

import json
import math
import runpy
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import PROCESSES
from PIL import Image

from medgr2.models.judging import Claim, JudgeReader, log_odds
from medgr2.models.reward_model import HEAD, RewardModel
from medgr2.models.reward_training import PRESETS, RewardExample, RewardSettings, train_reward
from medgr2.models.training import RECORD
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, UsageError

BASE = Path(__file__).parents[2] / "models" / "base"
DEADLINE = 240

PROGRAM = """
import json, os, signal, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from medgr2.models.judging import Claim
from medgr2.models.reward_training import RewardExample, RewardSettings, train_reward
job, writes, real = json.loads(JOB), 0, os.fsync

def fsync(handle):
    global writes
    writes += 1
    if writes == job["kill_at"]:
        os.kill(os.getpid(), signal.SIGKILL)
    real(handle)

os.fsync = fsync
examples = [RewardExample(Claim(Path(p), q, tuple(o), a, r), t) for p, q, o, a, r, t in job["examples"]]
train_reward(Path(job["base"]), examples, Path(job["out"]), RewardSettings(**job["settings"]))
Path(job["out"] + ".writes").write_text(str(writes))
"""
SHORT: dict[str, Any] = {"steps": 5, "batch": 4, "checkpoint_every": 2, "learning_rate": 1e-3, "warmup_steps": 0}
KINDS: dict[str, dict[str, Any]] = {
    "yes-no": SHORT,
    "head": SHORT | {"form": "head"},
    "yes-no-lora": SHORT | {"lora": {"rank": 4}},
    "head-lora": SHORT | {"form": "head", "lora": {"rank": 4}},
}


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> list[Claim]:
    """Pictures that are bright or dark, and claims about which they are: true of the first half, false of the rest."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    made = []
    for i in range(16):
        bright = i % 2
        pixels = rng.integers(120 * bright, 120 + 120 * bright, size=(64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        said = bright if i < 8 else 1 - bright
        word = ("dark", "bright")[said]
        made.append(Claim(folder / f"{i}.png", "What is it?", ("dark", "bright"), "AB"[said], f"It is {word}."))
    return made


def examples_of(claims: list[Claim], form: str) -> list[RewardExample]:
    good, bad = (10.0, -6.0) if form == "head" else (1.0, 0.0)
    return [RewardExample(claim, good if i < 8 else bad) for i, claim in enumerate(claims)]


class Runs:
    def __init__(self, root: Path, claims: list[Claim]) -> None:
        self.root, self.claims = root, claims
        self.program = root / "program.py"
        self.program.write_text(PROGRAM)

    def run(self, name: str, settings: dict[str, Any], kill_at: int = 0) -> int:
        rows = [
            (str(e.claim.image_path), e.claim.question, e.claim.options, e.claim.answer, e.claim.rationale, e.target)
            for e in examples_of(self.claims, settings.get("form", "yes-no"))
        ]
        job = {
            "base": str(BASE), "out": str(self.root / name), "settings": settings, "examples": rows, "kill_at": kill_at
        }  # fmt: skip
        process = PROCESSES.Process(target=runpy.run_path, args=(str(self.program), {"JOB": json.dumps(job)}))
        process.start()
        process.join(DEADLINE)
        assert process.exitcode is not None, f"still training after {DEADLINE} s"
        return process.exitcode

    def files(self, name: str) -> dict[str, str]:
        return {p.name: sha256_hex(p.read_bytes()) for p in sorted((self.root / name).iterdir())}

    def record(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.root / name / RECORD).read_text()))

    def writes(self, name: str) -> int:
        return int((self.root / f"{name}.writes").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, claims: list[Claim]) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("runs"), claims)
    for kind, settings in KINDS.items():
        assert runs.run(kind, settings) == 0
    return runs


def test_the_folder_is_the_base_with_other_weights_and_perhaps_a_head(runs: Runs) -> None:
    base = {p.name: sha256_hex(p.read_bytes()) for p in BASE.iterdir()}
    for kind in KINDS:
        made = runs.files(kind)
        assert made.keys() == base.keys() | {RECORD} | ({HEAD} if "head" in kind else set())
        assert {n for n in base if made[n] != base[n]} == {"model.safetensors"}
        assert not (runs.root / f"{kind}.work").exists()


def test_the_tensors_are_those_of_the_base_by_name_and_shape(runs: Runs) -> None:
    """No adapter and no head is left among them: any reader of the base reads them."""
    from safetensors.numpy import load_file

    base = {name: tensor.shape for name, tensor in load_file(BASE / "model.safetensors").items()}
    for kind in KINDS:
        made = load_file(runs.root / kind / "model.safetensors")
        assert {name: tensor.shape for name, tensor in made.items()} == base


@pytest.mark.crash
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_killed_and_run_again_is_the_same_bytes(runs: Runs, kind: str, share: float) -> None:
    name, last = f"{kind}-{share}", runs.writes(kind)
    assert runs.run(name, KINDS[kind], kill_at=max(1, round(share * last))) == -signal.SIGKILL
    assert runs.run(name, KINDS[kind]) == 0
    assert runs.files(name) == runs.files(kind)
    if share > 0.4:
        assert runs.writes(name) < last  # what was sealed is not done again


def test_another_seed_is_another_model_also_where_only_adapters_begin_at_random(runs: Runs) -> None:
    assert runs.run("other", KINDS["yes-no-lora"] | {"seed": 1}) == 0
    assert runs.files("other")["model.safetensors"] != runs.files("yes-no-lora")["model.safetensors"]


def test_adapters_train_less_and_say_so(runs: Runs) -> None:
    trained = {kind: runs.record(kind)["trained"] for kind in KINDS}
    assert trained["yes-no-lora"] < trained["head-lora"] < trained["yes-no"] / 2
    assert trained["head"] == trained["yes-no"] + 65  # as many weights as a state has numbers, and a bias


@pytest.mark.parametrize(
    ("kind", "change", "least", "most"),
    [
        ("yes-no", {"batch": 2, "accumulation": 2}, 0.99, 1.0),
        ("yes-no-lora", {"gradient_checkpointing": True}, 0.9999, 1.0),
        ("yes-no", {"precision": "bfloat16"}, 0.9, 0.9999),
        ("yes-no-lora", {"precision": "bfloat16"}, 0.9, 0.9999),
    ],
)
def test_what_saves_memory_changes_only_rounding(
    runs: Runs, kind: str, change: dict[str, Any], least: float, most: float
) -> None:
    """The weights move in the same direction (cosine over all); the coarser format does round, with adapters too."""
    from safetensors.numpy import load_file

    name = f"{kind}-{'-'.join(change)}"
    assert runs.run(name, KINDS[kind] | change) == 0
    base, lean, plain = (load_file(f / "model.safetensors") for f in (BASE, runs.root / name, runs.root / kind))
    a, b = (np.concatenate([(m[t] - base[t]).ravel() for t in sorted(base)]) for m in (lean, plain))
    assert a.dtype == np.float32
    assert least < a @ b / np.linalg.norm(a) / np.linalg.norm(b) <= most + 1e-6
    assert runs.record(name)["first_loss"] == pytest.approx(runs.record(kind)["first_loss"], rel=2e-2)


@pytest.mark.parametrize("form", ["yes-no", "head"])
def test_what_is_learned_is_read_back(form: str, claims: list[Claim], tmp_path: Path) -> None:
    """Trained until it knows its examples: the good ones score above every bad one, through another path of code."""
    settings = RewardSettings.model_validate({"form": form, "steps": 60, "batch": 16, "learning_rate": 2e-3})
    record = train_reward(BASE, examples_of(claims, form), tmp_path / "reward", settings)
    assert record["last_loss"] < record["first_loss"] / 2
    scores = RewardModel(tmp_path / "reward").score(claims)
    assert min(scores[:8]) > max(scores[8:])


def test_soft_targets_are_met_halfway(claims: list[Claim], tmp_path: Path) -> None:
    """Examples that deserve .7 and .9 are learned as such, not as right or wrong."""
    examples = [RewardExample(claim, 0.7 if i < 8 else 0.9) for i, claim in enumerate(claims)]
    settings = RewardSettings(steps=40, learning_rate=1e-3)
    train_reward(BASE, examples, tmp_path / "reward", settings)
    scores = RewardModel(tmp_path / "reward").score(claims)
    assert np.mean(scores) == pytest.approx(0.8, abs=0.06)


def test_merged_adapters_are_the_adapters(runs: Runs, claims: list[Claim]) -> None:
    """The merged folder against the adapters of the last checkpoint, put on the base by peft's own loader.

    Killed at its last flush, a training leaves both: the model has its name, and the scratch folder is still there.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    settings = KINDS["yes-no-lora"] | {"learning_rate": 2e-2, "checkpoint_every": 5}
    assert runs.run("counted", settings) == 0
    assert runs.run("merged", settings, kill_at=runs.writes("counted")) == -signal.SIGKILL
    merged = RewardModel(runs.root / "merged")
    plain = AutoModelForImageTextToText.from_pretrained(BASE, dtype=torch.float32)
    adapted: Any = PeftModel.from_pretrained(plain, runs.root / "merged.work" / "checkpoint-5").eval()
    reader = JudgeReader(_processor(), merged.card.prompt)

    def said() -> list[float]:
        with torch.inference_mode():
            odds = log_odds(adapted.get_base_model(), reader.inputs(claims), reader.words())
        return [float(p) for p in torch.sigmoid(odds)]

    assert said() == pytest.approx(merged.score(claims), abs=1e-5)
    with adapted.disable_adapter():
        assert np.abs(np.array(said()) - merged.score(claims)).max() > 0.05  # else they had nothing to show


def _processor() -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(BASE)


@pytest.mark.parametrize(
    ("form", "target"), [("yes-no", 10.0), ("yes-no", -0.1), ("yes-no", math.nan), ("head", 10.5), ("head", math.inf)]
)
def test_a_target_out_of_range_is_refused(form: str, target: float, claims: list[Claim], tmp_path: Path) -> None:
    examples = examples_of(claims, form)
    examples[3] = replace(examples[3], target=target)
    with pytest.raises(DataError, match="1 of 16 targets"):
        train_reward(BASE, examples, tmp_path / "out", RewardSettings.model_validate({"form": form}))
    assert not list(tmp_path.iterdir())


def test_examples_of_one_class_and_no_examples_are_refused(claims: list[Claim], tmp_path: Path) -> None:
    alike = [RewardExample(claim, 1.0) for claim in claims]
    with pytest.raises(DataError, match="nothing to tell apart"):
        train_reward(BASE, alike, tmp_path / "out", RewardSettings())
    # A bad example that is never visited does not help.
    with pytest.raises(DataError, match="nothing to tell apart"):
        train_reward(BASE, [*alike, RewardExample(claims[0], 0.0, weight=0.0)], tmp_path / "out", RewardSettings())
    with pytest.raises(DataError, match="nothing to train on"):
        train_reward(BASE, [], tmp_path / "out", RewardSettings())


def test_a_training_that_diverges_leaves_no_model(claims: list[Claim], tmp_path: Path) -> None:
    settings = RewardSettings.model_validate(SHORT | {"learning_rate": 1e38})
    with pytest.raises(DataError, match="diverged"):
        train_reward(BASE, examples_of(claims, "yes-no"), tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


def test_a_model_whose_yes_and_no_begin_alike_is_sent_to_the_head(
    claims: list[Claim], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medgr2.models.judging.WORDS", ("Yes", "Yup"))
    with pytest.raises(UsageError, match="same token"):
        train_reward(BASE, examples_of(claims, "yes-no"), tmp_path / "out", RewardSettings())
    # The head reads no words.
    train_reward(BASE, examples_of(claims, "head"), tmp_path / "out", RewardSettings.model_validate(KINDS["head"]))


def test_presets_are_both_forms() -> None:
    assert (PRESETS["default"].form, PRESETS["paper"].form) == ("yes-no", "head")
