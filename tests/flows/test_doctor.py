"""What `medgr2 doctor` says of the generator's engine, and what it tells to type."""

from __future__ import annotations

import json
import stat
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Handler, fault, said, serving

from medgr2.flows.checks_engines import engine_checks
from medgr2.infra.settings import GeneratorSettings, ModelSettings, Settings, VerifierSettings


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stalls for a while makes no server absent."""
    monkeypatch.setattr("medgr2.models.engines.http_probe.PATIENCE_SECONDS", 300.0)


def looked(settings: Settings, **more: Any) -> dict[str, tuple[str, str, str]]:
    return {check.check: (check.state, check.seen, check.next) for check in engine_checks(settings, **more)}


def served(url: str, **more: Any) -> Settings:
    return Settings(
        generator=GeneratorSettings.model_validate({"engine": "openai", "url": url, "model": "one", **more})
    )


async def green(_request: Any, _body: Mapping[str, Any]) -> Any:
    return said('{"colour": "green"}')


async def chatty(_request: Any, _body: Mapping[str, Any]) -> Any:
    return said("It is green, I think.")


async def refuses(_request: Any, _body: Mapping[str, Any]) -> Any:
    return fault(400, "this model takes no pictures")


def test_the_engine_of_this_process_needs_a_model_and_its_device(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra 'models' is not installed")
    state, seen, _ = looked(Settings())["generator"]
    assert (state, seen) == ("ok", "transformers: idefics3 on cpu")
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}')
    state, _, what_next = looked(Settings(models=ModelSettings(base=str(tmp_path))))["generator"]
    assert state == "broken"
    assert "MEDGR2_MODELS__BASE" in what_next


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="the extra 'models' is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    state, seen, what_next = looked(Settings(models=ModelSettings(device="cuda")))["generator"]
    assert state == "broken"
    assert "no GPU" in seen
    assert "MEDGR2_MODELS__DEVICE" in what_next


@pytest.mark.parametrize(
    ("handler", "words"), [(green, "keeps to a JSON form"), (chatty, "keeps to no JSON form")], ids=["form", "none"]
)
def test_a_server_is_asked_only_when_that_is_wanted(handler: Handler, words: str) -> None:
    asked = 0

    async def counting(request: Any, body: dict[str, Any]) -> Any:
        nonlocal asked
        asked += 1
        kinds = [part["type"] for part in body["messages"][-1]["content"]]
        assert "image_url" in kinds
        return await handler(request, body)

    with serving(counting) as url:
        free = looked(served(url))
        assert set(free) == {"generator"}
        assert free["generator"][0] == "ok"
        assert asked == 0
        state, seen, _ = looked(served(url), ask=True)["generator answers"]
        assert asked == 1
    assert state == "ok"
    assert words in seen


def test_a_model_that_is_not_listed_is_broken_until_it_answers() -> None:
    with serving(green) as url:
        state, seen, what_next = looked(served(url, model="three"))["generator"]
        assert state == "broken"
        assert "one, two" in seen
        assert "MEDGR2_GENERATOR__MODEL" in what_next
        assert {state for state, *_ in looked(served(url, model="three"), ask=True).values()} == {"ok"}


def test_a_model_without_eyes_is_broken() -> None:
    with serving(refuses) as url:
        state, seen, what_next = looked(served(url), ask=True)["generator"]
    assert state == "broken"
    assert "picture" in seen
    assert "vision" in what_next


def test_nobody_there_and_nobody_allowed() -> None:
    state, seen, what_next = looked(served("http://127.0.0.1:9/v1"))["generator"]
    assert state == "broken"
    assert "no server answers" in seen
    assert "MEDGR2_GENERATOR__URL" in what_next
    state, seen, what_next = looked(served("http://10.0.0.1/v1"))["generator"]
    assert "another machine" in seen
    assert "MEDGR2_GENERATOR__OUTSIDE" in what_next


def test_a_verifier_is_looked_at_where_there_is_one() -> None:
    pytest.importorskip("torch", reason="the extra 'models' is not installed")

    def judged_at(url: str, **more: Any) -> Settings:
        return Settings(verifier=VerifierSettings.model_validate({"url": url, "model": "one", **more}))

    assert set(looked(Settings())) == {"generator"}
    with serving(green) as url:
        assert looked(judged_at(url))["verifier"][0] == "ok"
        assert looked(judged_at(url), ask=True)["verifier answers"][0] == "ok"
        state, _, what_next = looked(judged_at(url, model="three"))["verifier"]
    assert state == "broken"
    assert "MEDGR2_VERIFIER__MODEL" in what_next
    found = looked(judged_at("http://10.0.0.1/v1"))
    assert found["generator"][0] == "ok"
    assert "pictures, questions and answers would be sent" in found["verifier"][1]
    assert "MEDGR2_VERIFIER__OUTSIDE" in found["verifier"][2]


def test_a_key_that_is_refused() -> None:
    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Authorization"] == "Bearer right" else 401)
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "one"}]}')

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        assert looked(served(url, api_key="right"))["generator"][0] == "ok"
        state, seen, what_next = looked(served(url, api_key="wrong"))["generator"]
    finally:
        server.shutdown()
        server.server_close()
    assert state == "broken"
    assert "refuses the key" in seen
    assert "wrong" not in seen
    assert "MEDGR2_GENERATOR__API_KEY" in what_next


def interpreter(folder: Path, python: str, versions: Mapping[str, str], why: str = "") -> Path:
    """A stand-in for another environment's python: it says what that one would."""
    made = folder / "python"
    found = json.dumps({"python": python, "versions": versions, "why": why})
    made.write_text(f"#!/bin/sh\necho 'found {found}'\n")
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    return made


def vllm(python: Path | None) -> Settings:
    return Settings(generator=GeneratorSettings(engine="vllm", python=python))


def test_the_environment_of_vllm_has_to_fit_ours(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    good = {"vllm": "0.31.0", "ray": ray.__version__}

    state, seen, _ = looked(vllm(interpreter(tmp_path, here, good)))["generator"]
    assert state == "ok"
    assert f"0.31.0 with ray {ray.__version__}" in seen

    unfit: list[tuple[str, tuple[str, dict[str, str], str]]] = [
        ("is Python 3.9", ("3.9", good, "")),
        ("has ray 2.0.0", (here, good | {"ray": "2.0.0"}, "")),
        ("cannot import vllm: ImportError", (here, {}, "vllm: ImportError")),
    ]
    for word, said_there in unfit:
        state, seen, what_next = looked(vllm(interpreter(tmp_path, *said_there)))["generator"]
        assert state == "broken"
        assert word in seen
        assert "make vllm-env" in what_next


def test_no_interpreter_and_none_that_says_anything(tmp_path: Path) -> None:
    for python in (tmp_path / "nowhere", Path("/bin/false")):
        state, _, what_next = looked(vllm(python))["generator"]
        assert state == "broken"
        assert "make vllm-env" in what_next
