"""What `medgr2 doctor` checks of whoever writes the drafts, the engine that MEDGR2_GENERATOR__ENGINE names, and of the
verifier, where MEDGR2_VERIFIER__URL names one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from medgr2.flows.checks import Check
from medgr2.infra.interpreters import check_worker_python
from medgr2.infra.settings import ServerSettings, Settings
from medgr2.schemas.errors import Medgr2Error

ENGINE, VERIFIER = "generator", "verifier"


def engine_checks(settings: Settings, *, ask: bool = False) -> Iterator[Check]:
    """`ask` puts one real question to a server, which may cost something."""
    kind = settings.generator.engine
    try:
        if kind == "openai":
            yield from _server(ENGINE, settings.generator, ask)
        elif kind == "vllm":
            yield _vllm(settings)
        else:
            yield _transformers(settings)
    except Medgr2Error as e:
        yield Check(check=ENGINE, state="broken", seen=f"{kind}: {e.what}", next=e.next_command)
    try:
        if settings.verifier.on:
            yield from _server(VERIFIER, settings.verifier, ask)
    except Medgr2Error as e:
        yield Check(check=VERIFIER, state="broken", seen=f"openai: {e.what}", next=e.next_command)


def _broken(seen: str, what_next: str, check: str = ENGINE) -> Check:
    return Check(check=check, state="broken", seen=seen, next=what_next)


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


def _server(check: str, server: ServerSettings, ask: bool) -> Iterator[Check]:
    if find_spec("aiohttp") is None:
        yield _broken("openai: aiohttp is not installed", "pip install 'medgr2[http]'", check)
        return
    from medgr2.models.engines.http_probe import greet, try_picture

    found = greet(server)
    if server.model in found.models or ask:
        seen = f"openai: {server.url} answers in {found.milliseconds:.0f} ms"
        yield Check(check=check, state="ok", seen=seen)
    else:
        listed = ", ".join(found.models[:10]) or "nothing at all"
        yield _broken(
            f"openai: {server.url} does not list {server.model}, but {listed}",
            f"set {server.variable('MODEL')} to one of them; or medgr2 doctor --ask, which tries it all the same",
            check,
        )
    if ask:
        answer = try_picture(server)
        forms = "keeps to a JSON form" if answer.in_form else "keeps to no JSON form"
        seen = f"takes a picture, {forms}; {answer.seconds:.1f} s"
        yield Check(check=f"{check} answers", state="ok", seen=seen)


def _vllm(settings: Settings) -> Check:
    python, ray = settings.generator.python or Path(sys.executable), settings.compute.mode != "inline"
    found = check_worker_python(python, ("vllm", "medgr2.tasks.generate"), ray=ray)
    with_ray = f" with ray {found.versions['ray']}" if ray else ""
    seen = f"vllm: {found.versions['vllm']}{with_ray} in {python}, on {settings.models.device}"
    return Check(check=ENGINE, state="ok", seen=seen)
