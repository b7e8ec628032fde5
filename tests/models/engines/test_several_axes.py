"""A model whose tokens have positions on several axes is asked and judged as its own library would."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qwen_family import processor, save_model

from medgr2.models.engines.seam import Request
from medgr2.models.engines.transformers import Reading, TransformersEngine
from medgr2.models.judging import Claim, JudgeReader, head_values, log_odds

SIZES = ((84, 112), (28, 56), (140, 60))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i, size in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 256, size=(*size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> TransformersEngine:
    folder = tmp_path_factory.mktemp("qwen") / "model"
    save_model(folder)
    library = importlib.import_module("transformers")
    monkeypatch.setattr(library.AutoProcessor, "from_pretrained", lambda *_, **__: processor())
    return TransformersEngine(folder)


def asked(engine: TransformersEngine, request: Request) -> dict[str, Any]:
    with Image.open(request.image_path or "") as image:
        text = engine.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request.text}]}],
            add_generation_prompt=True, tokenize=False,
        )  # fmt: skip
        return dict(
            engine.processor(
                text=[text], images=[[image.convert("RGB")]], add_special_tokens=False, return_tensors="pt"
            )
        )


def test_greedy_replies_are_those_of_the_library_whatever_shares_the_batch(
    engine: TransformersEngine, pictures: list[Path]
) -> None:
    requests = [
        Request(pictures[i % 3], f"What is this {'now ' * i}", max_new_tokens=12, temperature=0.0) for i in range(7)
    ]
    together = [found[0].text for found in engine.complete(requests)]
    alone = [engine.complete([request])[0][0].text for request in requests]
    tokenizer = engine.processor.tokenizer
    library = []
    for request in requests:
        read = asked(engine, request)
        said = engine.model.generate(**read, max_new_tokens=12, do_sample=False)[0, read["input_ids"].shape[1] :]
        library.append(tokenizer.decode(said, skip_special_tokens=True))
    assert together == alone == library
    assert len(set(library)) > 4


def test_how_likely_a_reply_is_is_what_reading_all_of_it_says(engine: TransformersEngine, pictures: list[Path]) -> None:
    torch = importlib.import_module("torch")
    reply = "<think>It shows CT.</think><answer>B</answer>"
    readings = [Reading(picture, text, reply) for picture in pictures for text in ("Where?", "And which one is it?")]
    ids = engine.processor.tokenizer(reply, add_special_tokens=False)["input_ids"]
    for reading, found in zip(readings, engine.logprobs(readings), strict=True):
        read = asked(engine, Request(reading.image_path, reading.text))
        width, more = read["input_ids"].shape[1], torch.tensor([ids])
        for name, filler in (("input_ids", more), ("attention_mask", torch.ones_like(more))):
            read[name] = torch.cat([read[name], filler], dim=1)
        read["mm_token_type_ids"] = torch.cat([read["mm_token_type_ids"], torch.zeros_like(more)], dim=1)
        with torch.inference_mode():
            spread = torch.log_softmax(engine.model(**read).logits[0, width - 1 : -1], dim=-1)
        whole = float(spread.gather(-1, more[0][:, None]).sum())
        assert found.total == pytest.approx(whole, abs=1e-4)
        assert found.tokens == len(ids)


def test_a_claim_is_judged_alike_alone_and_padded(engine: TransformersEngine, pictures: list[Path]) -> None:
    torch = importlib.import_module("torch")
    reader = JudgeReader(engine.processor, "{question} {options} {answer} {key} {rationale}")
    claims = [
        Claim(pictures[i], "Which?" + " now" * 3 * i, ("left", "right", "up", "down"), "B", "It is.") for i in range(3)
    ]
    head = torch.nn.Linear(64, 1).double()
    with torch.inference_mode():
        for judge in (
            lambda inputs: log_odds(engine.model, inputs, (90, 120)),
            lambda i: head_values(engine.model, head, i),
        ):
            together = judge(reader.inputs(claims))
            alone = torch.cat([judge(reader.inputs([claim])) for claim in claims])
            assert torch.allclose(together, alone, atol=1e-6)
            assert len(set(together.tolist())) == 3
