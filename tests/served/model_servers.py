"""Real servers of the tiny model, from the environment that infra/deploy/vllm-environment.sh makes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ports import free_port

from medgr2.infra.workspace import Workspace
from medgr2_phantoms.world import draw, sample_scene

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "models" / "base"
START_SECONDS = 400
LENGTH = 4096
NAME = "tiny"


def vllm_python() -> Path:
    """The interpreter that has vLLM; a test without one is skipped."""
    python = Path(os.environ.get("TEST_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))
    if not python.is_file():
        pytest.skip(f"no environment of vLLM at {python}: make vllm-env, or set TEST_VLLM_PYTHON")
    return python


def quiet_environment(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MEDGR2_", "VLLM_", "RAY_"))}
    return kept | {
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_CACHE": str(folder),
    }  # fmt: skip


def long_model(folder: Path) -> Path:
    """The base weights with room for the prompts of general models: its positions are computed, not learnt."""
    made = folder / NAME
    shutil.copytree(BASE, made)
    config = json.loads((made / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = LENGTH
    (made / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((made / "tokenizer_config.json").read_text())
    (made / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"model_max_length": LENGTH}))
    return made


def draw_pictures(n: int) -> list[tuple[bytes, str]]:
    """Phantoms as PNG files, each with the name of its modality."""
    import io

    rng = np.random.default_rng(11)
    drawn = []
    for _ in range(n):
        scene = sample_scene(rng)
        file = io.BytesIO()
        draw(scene, "clean").save(file, "PNG")
        drawn.append((file.getvalue(), scene.modality))
    return drawn


def fill(workspace: Workspace, n: int) -> list[str]:
    """So many training images in the lake; their ids."""
    rows = [
        {"image_id": workspace.images.put(data), "split": "train", "report": f"{modality}, mild", "modality": modality}
        for data, modality in draw_pictures(n)
    ]
    workspace.lake.append_new("images", rows, key="image_id")
    return sorted({str(row["image_id"]) for row in rows})


@contextlib.contextmanager
def serving_vllm(model: Path, folder: Path) -> Iterator[str]:
    command = [str(vllm_python()), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", NAME, "--dtype", "float32", "--enforce-eager", "--max-model-len", str(LENGTH)]
    command += ["--load-format", "safetensors", "--host", "127.0.0.1"]
    # On a CPU, a seeded prompt that is read in two pieces ends vLLM 0.31: it cannot turn its noise back.
    command += ["--no-enable-chunked-prefill"]
    command += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    with _serving(command, folder) as url:
        yield url


@contextlib.contextmanager
def serving_transformers(model: Path, folder: Path) -> Iterator[str]:
    command = [str(vllm_python().with_name("transformers")), "serve", str(model), "--device", "cpu"]
    with _serving([*command, "--host", "127.0.0.1"], folder) as url:
        yield url


@contextlib.contextmanager
def _serving(command: list[str], folder: Path) -> Iterator[str]:
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env=quiet_environment(folder),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(port):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"waited {START_SECONDS} s for {command[:4]}\n{log.read_text()[-3000:]}"
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        # Its own session, so its own process group: vLLM's core is a child of it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(120)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
