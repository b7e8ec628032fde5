"""A server that samples for GRPO is trusted only when it says of each token what the trained model says."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "served"))

from model_servers import draw_pictures, long_model, serving_vllm

from medgr2.models.care import Care, under
from medgr2.models.engines.seam import Request
from medgr2.models.prompts import GENERATE_EMBEDDED, generating_text, load_prompt
from medgr2.models.sampling import Sampling, sampling
from medgr2.models.sampling_parity import (
    DRAWN,
    FIGURE,
    TOLERANCES,
    UNSEEN,
    Drawn,
    Tolerance,
    compare,
    draw,
    parity_watch,
    refuse_untrue_server,
)
from medgr2.models.sft import Example, SftSettings, train_sft
from medgr2.schemas.errors import MissingExtraError, NightStoppedError, SettingsError
from medgr2.schemas.vocabulary import QuestionType

BASE = Path(__file__).parents[2] / "models" / "base"
LONGEST = 48
TIGHT = TOLERANCES["float32"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_vllm(model, tmp_path_factory.mktemp("vllm")) as url:
        yield url.removesuffix("/v1")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    folder, kinds, made = tmp_path_factory.mktemp("pictures"), list(QuestionType), []
    for i, (data, modality) in enumerate(draw_pictures(DRAWN)):
        path = folder / f"{i}.png"
        path.write_bytes(data)
        made.append((path, generating_text(load_prompt(GENERATE_EMBEDDED), kinds[i % 5], f"{modality}, mild")))
    return made


@pytest.mark.e2e
def test_the_same_weights_pass(server: str, model: Path, asked: list[tuple[Path, str]]) -> None:
    found = refuse_untrue_server(model, asked, server, LONGEST, TIGHT)
    print(found.line())
    assert found.replies == DRAWN
    assert found.tokens > 20 * DRAWN / 2
    assert found.mean < 1e-4, "two float32 models of the same weights differ by rounding alone"


@pytest.mark.e2e
def test_other_weights_are_refused_with_the_figures(
    server: str, model: Path, asked: list[tuple[Path, str]], tmp_path: Path
) -> None:
    """A few steps of training away: as a server that did not take the new weights."""
    examples = [Example(path, text, "<think>so</think><answer>A</answer>") for path, text in asked]
    train_sft(model, examples, tmp_path / "later", SftSettings(steps=4, batch=4, learning_rate=1e-3))
    with pytest.raises(NightStoppedError, match=r"is not the model that is trained: over \d+ tokens") as refused:
        refuse_untrue_server(tmp_path / "later", asked, server, LONGEST, TIGHT)
    print(refused.value.what)
    assert "no step was taken" in refused.value.kept


@pytest.mark.e2e
def test_another_picture_or_prompt_is_seen(server: str, model: Path, asked: list[tuple[Path, str]]) -> None:
    drawn = draw(asked, server, LONGEST)
    swapped = [
        Drawn(Request(asked[i - 1][0], d.request.text), d.prompt, d.tokens, d.chances) for i, d in enumerate(drawn)
    ]
    assert compare(model, drawn).within(TIGHT)
    assert not compare(model, swapped).within(TIGHT)
    respelt = [Drawn(d.request, d.prompt[:-1], d.tokens, d.chances) for d in drawn]
    found = compare(model, respelt)
    assert found.other_prompts == DRAWN
    assert found.mean < 1e-4
    assert not found.within(TIGHT), "the same chances by luck are no reason to trust another template"


def test_what_is_no_number_is_not_within(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    one = Drawn(Request(tmp_path / "0.png", "Which?"), (), (5, 6), (-1.0, math.nan))
    assert not compare(BASE, [one]).within(Tolerance(mean=1e9, far_share=1))
    assert not compare(BASE, []).within(Tolerance(mean=1e9, far_share=1))


class Odd(BaseHTTPRequestHandler):
    reply: ClassVar[Any] = {}

    def do_GET(self) -> None:
        self._say({"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(self.reply)

    def _say(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"choices": [{"message": {"content": "A"}}]},
        {"choices": [{"token_ids": [1, 2], "logprobs": {"content": [{"logprob": -1}]}}], "prompt_token_ids": [1]},
        {"choices": [{"token_ids": [], "logprobs": {"content": []}}], "prompt_token_ids": [1]},
    ],
)
def test_a_server_that_tells_no_chances_is_refused(asked: list[tuple[Path, str]], reply: Any) -> None:
    handler = type("Handler", (Odd,), {"reply": reply})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(SettingsError, match="no server of the kind"):
            draw(asked[:1], f"http://127.0.0.1:{server.server_port}", LONGEST)
        server.shutdown()


def test_pictures_stay_on_this_machine(asked: list[tuple[Path, str]]) -> None:
    for url in ("http://10.0.0.1:8000", "https://example.org", ""):
        with pytest.raises(SettingsError, match="would be sent to"):
            draw(asked, url, LONGEST)
    with pytest.raises(SettingsError, match="no server of the kind"):
        draw(asked, "http://127.0.0.1:9", LONGEST)


def test_a_server_that_drifts_away_ends_the_training() -> None:
    watch, state = parity_watch(TOLERANCES["bfloat16"]), SimpleNamespace(global_step=7)
    watch.on_log(None, state, None, logs={"loss": 1.0})
    watch.on_log(None, state, None, logs={"loss": 1.0, FIGURE: 0.01})
    for apart in (0.3, math.nan):
        with pytest.raises(NightStoppedError, match="after step 7"):
            watch.on_log(None, state, None, logs={"loss": 1.0, FIGURE: apart})


def test_a_trainer_that_does_not_tell_how_far_apart_they_are_is_ended() -> None:
    watch, state = parity_watch(TOLERANCES["bfloat16"]), SimpleNamespace(global_step=9)
    step, blind = {"loss": 1.0, FIGURE: 0.01}, {"loss": 1.0}
    for logs in (*[blind] * (UNSEEN - 1), step, *[blind] * (UNSEEN - 1), {"train_loss": 1.0}, {"train_loss": 1.0}):
        watch.on_log(None, state, None, logs=logs)
    with pytest.raises(NightStoppedError, match=f"for {UNSEEN} steps .* {FIGURE} is missing") as ended:
        watch.on_log(None, state, None, logs=blind)
    assert "sampler transformers" in ended.value.next_command


def test_vllm_is_off_by_default_and_needs_what_it_needs(
    asked: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sampling("transformers", BASE, asked, LONGEST, "float32", exact=True) == Sampling()
    with pytest.raises(SettingsError, match="bit for bit") as refused:
        sampling("vllm-server", BASE, asked, LONGEST, "float32", exact=True)
    assert "exact off" in refused.value.next_command
    if find_spec("vllm") is None:
        with pytest.raises(MissingExtraError, match="only where vLLM is installed"):
            sampling("vllm-colocate", BASE, asked, LONGEST, "float32", exact=False)
    tried: list[Any] = []
    monkeypatch.setattr("medgr2.models.sampling.find_spec", lambda name: name)
    monkeypatch.setattr("medgr2.models.sampling.refuse_untrue_server", lambda *how: tried.append(how))
    with under(Care(sampler_url="http://127.0.0.1:8000")):
        made = sampling("vllm-server", BASE, asked, LONGEST, "bfloat16", exact=False)
    assert made.arguments == {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://127.0.0.1:8000"}
    assert tried == [(BASE, asked, "http://127.0.0.1:8000", LONGEST, TOLERANCES["bfloat16"])]
    colocated = sampling("vllm-colocate", BASE, asked, LONGEST, "bfloat16", exact=False)
    assert (colocated.arguments, len(tried)) == ({"use_vllm": True, "vllm_mode": "colocate"}, 1)
    from trl import GRPOConfig

    for one in (made, colocated):
        GRPOConfig(output_dir="unused", use_cpu=True, bf16=False, **one.arguments)
        assert [type(callback).__name__ for callback in one.callbacks] == ["ParityWatch"]
