"""Several processes train one model: the same step as one process takes, in the same batch. On a CPU, over gloo."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from medgr2.models import crew, crew_job, ranks
from medgr2.models.care import Care, under
from medgr2.models.crew_job import Complaint, last_error
from medgr2.models.crew_terms import refuse_unshareable
from medgr2.models.grader import Grader
from medgr2.models.grpo import GrpoSettings, Prompt, train_grpo
from medgr2.models.memory_need import spread_of
from medgr2.models.sft import Example, SftSettings, train_sft
from medgr2.models.training import RECORD
from medgr2.schemas.errors import DataError, NightStoppedError, SettingsError, UsageError

pytest.importorskip("trl", reason="the extra 'train' is not installed")
TESTS = Path(__file__).parents[1]
BASE = TESTS.parent / "models" / "base"
ASK = "Question: Which modality is this image? Options: A) CT B) MRI C) OCT D) X-Ray"
ONE_STEP = SftSettings(steps=1, batch=4, learning_rate=1e-4)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, size=(64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def lessons(pictures: list[Path]) -> list[Example]:
    """Replies of several lengths: what each process sees has not the same number of tokens."""
    said = ["seen", "a dark spot on the left and a bright one", "", "seen and seen again"]
    return [
        Example(p, ASK, f"<think>{said[i % 4]}</think><answer>{'ABCD'[i % 4]}</answer>") for i, p in enumerate(pictures)
    ]


def weights(folder: Path) -> dict[str, Any]:
    return dict(importlib.import_module("safetensors.numpy").load_file(folder / "model.safetensors"))


@pytest.fixture(scope="module")
def alone(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "model"
    train_sft(BASE, lessons(pictures), out, ONE_STEP)
    return out


def assert_moved_alike(out: Path, alone: Path, *, least: float) -> None:
    """The same way from the base, and so far at least."""
    base, one, two = weights(BASE), weights(alone), weights(out)
    moved = [np.concatenate([(made[name] - base[name]).ravel() for name in sorted(base)]) for made in (one, two)]
    assert np.abs(moved[0]).max() > least
    assert moved[0] @ moved[1] / np.linalg.norm(moved[0]) / np.linalg.norm(moved[1]) > 0.9999


def assert_the_same_step(out: Path, alone: Path) -> None:
    base, one, two = weights(BASE), weights(alone), weights(out)
    assert one.keys() == two.keys() == base.keys()
    assert max(np.abs(one[name] - two[name]).max() for name in base) < 1e-5
    assert_moved_alike(out, alone, least=5e-5)
    assert {p.name for p in out.iterdir()} == {p.name for p in alone.iterdir()}
    assert [p.name for p in out.parent.iterdir()] == [out.name], "nothing else is left, least of all rows"


def test_a_step_of_two_processes_is_the_step_of_one(
    pictures: list[Path], alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    look = crew._look_at

    def looking(folder: Path, *more: Any) -> None:
        seen.append((folder.stat().st_mode & 0o777, (folder / crew_job.JOB).stat().st_mode & 0o777))
        look(folder, *more)

    monkeypatch.setattr(crew, "_look_at", looking)
    with under(Care(processes=2)):
        record = train_sft(BASE, lessons(pictures), tmp_path / "model", ONE_STEP)
        assert train_sft(BASE, [], tmp_path / "model", ONE_STEP) == record, "what is finished is found"
    assert_the_same_step(tmp_path / "model", alone)
    assert set(seen) == {(0o700, 0o600)}
    single = json.loads((alone / RECORD).read_text())
    assert (record["processes"], record["sharding"]) == (2, "ddp")
    assert record["last_loss"] == pytest.approx(single["last_loss"], abs=1e-4)
    assert record["trained"] == single["trained"]
    assert "processes" not in single


@pytest.fixture
def spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trainings by infra/deploy/accelerate/fsdp.yaml; see fsdp_member for what a CPU needs for it. Where each process
    says how much it held."""
    held = tmp_path / "held"
    held.mkdir()
    monkeypatch.setenv("TEST_HELD", str(held))
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    monkeypatch.setattr(crew, "MEMBER", "fsdp_member")
    monkeypatch.setattr(crew, "refuse_unshareable", lambda *_: None)
    return held


def test_nor_does_it_change_when_the_model_is_spread_over_them(
    pictures: list[Path], alone: Path, tmp_path: Path, spread: Path
) -> None:
    out = tmp_path / "made" / "model"
    out.parent.mkdir()
    with under(Care(processes=2, sharding="fsdp")):
        record = train_sft(BASE, lessons(pictures), out, ONE_STEP.model_copy(update={"checkpoint_every": 1}))
    assert_the_same_step(out, alone)
    assert record["sharding"] == "fsdp"
    parts = [int(path.read_text()) for path in sorted(spread.iterdir())]
    assert len(parts) == 2
    assert max(parts) < 0.6 * record["trained"], "each holds a part"


def test_a_spread_model_goes_on_from_its_checkpoint(
    pictures: list[Path], tmp_path: Path, spread: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when it had trained: of its checkpoints the last is lost as well, and the step after the first is taken
    again, with the optimizer's moments of before."""
    three = ONE_STEP.model_copy(update={"steps": 3, "checkpoint_every": 1, "exact": False})
    kills = tmp_path / "kills"
    kills.touch()
    monkeypatch.setenv("TEST_ENDS", str(kills))
    out, work = tmp_path / "made" / "model", tmp_path / "made" / "model.work"
    out.parent.mkdir()
    with under(Care(processes=2, sharding="fsdp")):
        with pytest.raises(NightStoppedError, match="the processes that train ended"):
            train_sft(BASE, lessons(pictures), out, three)
        kills.unlink()
        assert not out.exists()
        assert sorted(path.name for path in work.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
        shutil.rmtree(work / "checkpoint-3")
        train_sft(BASE, lessons(pictures), out, three)
    train_sft(BASE, lessons(pictures), tmp_path / "alone" / "model", three)
    assert_moved_alike(out, tmp_path / "alone" / "model", least=1e-4)


class Marks(BaseHTTPRequestHandler):
    """Grades all alike, as a reward's service would answer."""

    asked: list[int]

    def do_POST(self) -> None:
        claims = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["claims"]
        self.asked.append(len(claims))
        body = json.dumps({"model": "d" * 64, "grades": [0.5] * len(claims)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def grader() -> Iterator[Grader]:
    Marks.asked = []
    with HTTPServer(("127.0.0.1", 0), Marks) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Grader(f"http://127.0.0.1:{server.server_port}", SecretStr("t"), "d" * 64, 400)
        server.shutdown()


def test_grpo_is_shared_with_its_grader_and_its_micro_batches(
    pictures: list[Path], tmp_path: Path, grader: Grader
) -> None:
    # At this temperature replies differ in length as well: who has ended one has to wait for the others.
    settings = GrpoSettings(
        steps=2,
        prompts=1,
        generations=4,
        accumulation=2,
        temperature=2.0,
        learning_rate=1e-3,
        reward="paper",
        grader="d" * 64,
    )
    prompts = [
        Prompt(p, ASK, "ABCD"[i % 4], 4, 0.9, question="Q", choices=("a", "b", "c", "d"))
        for i, p in enumerate(pictures)
    ]
    with under(Care(processes=2)):
        record = train_grpo(BASE, prompts, tmp_path / "model", settings, grader.grade)
        with pytest.raises(UsageError, match="a service that each can reach"):
            train_grpo(BASE, prompts, tmp_path / "other", settings, lambda claims: [0.5] * len(claims))
    assert (record["method"], record["processes"]) == ("grpo", 2)
    # Two steps of two processes, each with one micro-batch of four replies, of which some can be read.
    assert 2 <= len(Marks.asked) <= 4
    assert max(Marks.asked) <= 4
    before, after = weights(BASE), weights(tmp_path / "model")
    assert any(not np.array_equal(before[name], after[name]) for name in before)


def test_processes_that_say_nothing_are_told_by_status_and_class(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    monkeypatch.setattr(crew, "MEMBER", "failing_member")
    with under(Care(processes=2)), pytest.raises(NightStoppedError, match="ended with status 1") as stopped:
        train_sft(BASE, lessons(pictures), tmp_path / "model", ONE_STEP)
    assert "patient" not in str(stopped.value)
    assert stopped.value.what.endswith("ZeroDivisionError")
    assert not list(tmp_path.glob("*.crew"))


def test_what_one_of_them_raised_is_raised_here(tmp_path: Path) -> None:
    assert Complaint.first(tmp_path) is None
    for rank, error in enumerate((DataError("training diverged", kept="nothing", next_command="less"), KeyError("Q"))):
        Complaint.of(error).leave(tmp_path, rank)
    first = Complaint.first(tmp_path)
    assert first is not None
    told = first.error()
    assert isinstance(told, DataError)
    assert (told.what, told.kept, told.next_command) == ("training diverged", "nothing", "less")
    assert Complaint.of(KeyError("a report")).error() is None
    assert Complaint.of(KeyError("a report")).what == "KeyError"
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    (tmp_path / "log").write_text("Traceback:\n  ValueError is near\ntorch.cuda.OutOfMemoryError: a report\nmore\n")
    assert last_error(tmp_path / "log") == "OutOfMemoryError"
    (tmp_path / "log").write_text("x.ChildFailedError: \n  exitcode  : -9 (pid: 123)\n")
    assert last_error(tmp_path / "log") == "one with exit code -9"


@pytest.mark.parametrize(
    ("batch", "accumulation", "count", "each"),
    [
        (16, 1, 1, (16, 1)), (16, 1, 2, (8, 1)), (2, 8, 8, (2, 1)), (2, 8, 4, (2, 2)), (2, 8, 16, (1, 1)),
        (4, 3, 2, (2, 3)), (4, 6, 12, (2, 1)), (3, 1, 2, None), (2, 2, 8, None), (2, 8, 3, None),
    ],
)  # fmt: skip
def test_a_step_has_the_same_rows_whoever_shares_it(
    batch: int, accumulation: int, count: int, each: tuple[int, int] | None
) -> None:
    assert ranks.share(batch, accumulation, count) == each
    if each is not None:
        assert each[0] * each[1] * count == batch * accumulation


def test_what_can_not_be_shared_is_refused_before_anybody_is_started(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = importlib.import_module("torch").cuda
    monkeypatch.setattr(cuda, "device_count", lambda: 2)
    gpu = SftSettings(device="cuda", batch=4)
    refuse_unshareable(gpu, 2, "ddp", 4)
    refuse_unshareable(gpu.model_copy(update={"exact": False}), 2, "fsdp", 4)
    for settings, count, sharding, why, instead in (
        (SftSettings(batch=4), 3, "ddp", "1 micro-batches of 4 rows", "PROCESSES=2"),
        (SftSettings(batch=4), 2, "fsdp", "over GPUs only", "SHARDING=ddp"),
        (gpu, 2, "fsdp", "could not be resumed bit for bit", "exact off"),
        (gpu, 4, "ddp", "4 processes were asked for, each with a GPU, and 2 can be seen", "PROCESSES=2"),
        (GrpoSettings(sampler="vllm-server", exact=False), 2, "ddp", "vllm-server were never tried", "transformers"),
    ):
        with pytest.raises(SettingsError, match=why) as refused:
            refuse_unshareable(settings, count, sharding, settings.rows)  # type: ignore[arg-type,attr-defined]
        assert instead in refused.value.next_command
        assert refused.value.kept == "nothing was trained"
    with under(Care(processes=3)), pytest.raises(SettingsError, match="share out among 3"):
        train_sft(BASE, lessons(pictures), tmp_path / "model", ONE_STEP)
    assert not list(tmp_path.iterdir())


def test_each_memory_holds_a_copy_or_its_part() -> None:
    assert [spread_of(4, "ddp", "cuda"), spread_of(4, "fsdp", "cuda")] == [1, 0.25]
    assert [spread_of(4, "ddp", "cpu"), spread_of(1, "ddp", "cpu"), spread_of(1, "ddp", "cuda")] == [4, 1, 1]


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_accelerate_reads_the_configurations(name: str) -> None:
    read = importlib.import_module("accelerate.commands.config.config_args").load_config_from_file
    with as_file(files("medgr2.infra") / "deploy" / "accelerate" / f"{name}.yaml") as path:
        config = read(str(path))
    assert config.num_processes == -1, "how many is the setting's to say"
    assert str(config.distributed_type.value) == {"ddp": "MULTI_GPU", "fsdp": "FSDP"}[name]
    if name == "fsdp":
        told = {key.removeprefix("fsdp_"): value for key, value in config.fsdp_config.items()}
        version, plan = told.pop("version"), told.pop("auto_wrap_policy")
        offload, again = told.pop("offload_params"), told.pop("activation_checkpointing")
        plugin = importlib.import_module("accelerate").FullyShardedDataParallelPlugin(
            fsdp_version=version, auto_wrap_policy=plan, cpu_offload=offload, activation_checkpointing=again, **told
        )
        assert plugin.fsdp_version == 2
        assert "FULL_STATE_DICT" in str(plugin.state_dict_type)


@pytest.mark.parametrize("family", ["idefics3", "qwen2_5_vl"])
def test_the_layers_that_are_spread_are_found_in_the_model(family: str, tmp_path: Path) -> None:
    """accelerate takes them by the names that the model gives; one that is not there ends a training as it begins."""
    library = importlib.import_module("transformers")
    folder = BASE
    if family == "qwen2_5_vl":
        folder = tmp_path / "model"
        importlib.import_module("qwen_family").save_model(folder)
    model = library.AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    utils = importlib.import_module("accelerate.utils.fsdp_utils")
    plugin = importlib.import_module("accelerate").FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap"
    )
    policy = utils.fsdp2_prepare_auto_wrap_policy(plugin, model)
    spread = {type(module).__name__ for module in model.modules() if policy(module)}
    assert any("DecoderLayer" in name for name in spread)
    assert any("Vision" in name for name in spread)
