"""What `medgr2 doctor` checks of whoever writes the drafts: the engine that MEDGR2_GENERATOR__ENGINE names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from medgr2.flows.checks import Check
from medgr2.infra.settings import GeneratorSettings, Settings
from medgr2.schemas.errors import Medgr2Error

ENGINE = "generator"
IMPORT_SECONDS = 180
_LOOK = """
import json, sys
found = {"python": "%d.%d" % sys.version_info[:2]}
for name in ("vllm", "ray", "medgr2.tasks.generate"):
    try:
        module = __import__(name)
        found[name] = getattr(module, "__version__", "there")
    except Exception as e:
        found[name] = None
        found["why"] = "%s: %s" % (name, type(e).__name__)
print("found " + json.dumps(found))
"""


def engine_checks(settings: Settings, *, ask: bool = False) -> Iterator[Check]:
    """`ask` puts one real question to a server, which may cost something."""
    kind = settings.generator.engine
    try:
        if kind == "openai":
            yield from _server(settings.generator, ask)
        elif kind == "vllm":
            yield _vllm(settings)
        else:
            yield _transformers(settings)
    except Medgr2Error as e:
        yield Check(check=ENGINE, state="broken", seen=f"{kind}: {e.what}", next=e.next_command)


def _broken(seen: str, what_next: str) -> Check:
    return Check(check=ENGINE, state="broken", seen=seen, next=what_next)


def _transformers(settings: Settings) -> Check:
    if find_spec("torch") is None or find_spec("transformers") is None:
        return Check(
            check=ENGINE, state="absent", seen="transformers: not installed", next="pip install 'medgr2[models]'"
        )
    import torch
    from transformers import AutoConfig

    named = settings.models.base
    folder = Path(__file__).parents[1] / "models" / "base" if named == "embedded" else Path(named).expanduser()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as e:
        return _broken(
            f"transformers: the base model's config cannot be read: {type(e).__name__}",
            "set MEDGR2_MODELS__BASE to a folder made by save_pretrained, or to 'embedded'",
        )
    if settings.models.device == "cuda" and not torch.cuda.is_available():
        return _broken(
            f"transformers: torch {version('torch')} sees no GPU",
            "install torch for CUDA and a driver, or set MEDGR2_MODELS__DEVICE=cpu",
        )
    return Check(check=ENGINE, state="ok", seen=f"transformers: {config.model_type} on {settings.models.device}")


def _server(generator: GeneratorSettings, ask: bool) -> Iterator[Check]:
    if find_spec("aiohttp") is None:
        yield _broken("openai: aiohttp is not installed", "pip install 'medgr2[http]'")
        return
    from medgr2.models.engines.http_probe import greet, try_picture

    found = greet(generator)
    if generator.model in found.models or ask:
        seen = f"openai: {generator.url} answers in {found.milliseconds:.0f} ms"
        yield Check(check=ENGINE, state="ok", seen=seen)
    else:
        listed = ", ".join(found.models[:10]) or "nothing at all"
        yield _broken(
            f"openai: {generator.url} does not list {generator.model}, but {listed}",
            "set MEDGR2_GENERATOR__MODEL to one of them; or medgr2 doctor --ask, which tries it all the same",
        )
    if ask:
        answer = try_picture(generator)
        forms = "keeps to a JSON form" if answer.in_form else "keeps to no JSON form: replies are read as they come"
        seen = f"{generator.model} looked at a picture and answered in {answer.seconds:.1f} s; it {forms}"
        yield Check(check="generator answers", state="ok", seen=seen)


def _vllm(settings: Settings) -> Check:
    make = "make vllm-env  and set MEDGR2_GENERATOR__PYTHON=.venv-vllm/bin/python"
    python = settings.generator.python or Path(sys.executable)
    if not os.access(python, os.X_OK):
        return _broken(f"vllm: no interpreter at {python}", make)
    quiet = {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    try:
        done = subprocess.run(
            [str(python), "-c", _LOOK],
            env=os.environ | quiet,
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return _broken(f"vllm: {python} imported nothing within {IMPORT_SECONDS} s", "look at the load of this machine")
    except OSError as e:
        return _broken(f"vllm: {python} cannot be run: {type(e).__name__}", make)
    said = next((line for line in done.stdout.splitlines() if line.startswith("found ")), "")
    if not said:
        return _broken(f"vllm: {python} ended with {done.returncode} and said nothing", make)
    found = json.loads(said.removeprefix("found "))
    if "why" in found:
        return _broken(f"vllm: {python} cannot import {found['why']}", make)
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if found["python"] != ours:
        return _broken(
            f"vllm: its python is {found['python']} and ours is {ours}: Ray refuses that",
            f"PYTHON=python{ours} make vllm-env",
        )
    if settings.compute.mode != "inline" and found["ray"] != (our_ray := _our_ray()):
        return _broken(f"vllm: its ray is {found['ray']} and ours is {our_ray}: they have to be the same", make)
    seen = f"vllm: {found['vllm']} with ray {found['ray']} in {python}, on {settings.models.device}"
    return Check(check=ENGINE, state="ok", seen=seen)


def _our_ray() -> str:
    try:
        return version("ray")
    except PackageNotFoundError:
        return "not installed"
