"""How fast the engine writes drafts, beside transformers' own generate on the same rows; and vLLM on them, where it is.

OMP_NUM_THREADS=1 python benchmarks/engine_speed.py [--prompts 32] [--samples 4] [--model FOLDER]
OMP_NUM_THREADS=1 .venv-vllm/bin/python benchmarks/engine_speed.py --vllm   both engines, in the environment of vLLM
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.seam import Completion, Conversation, Engine, Request
from medgr2.models.engines.transformers import Reading, TransformersEngine
from medgr2.models.model_ref import EMBEDDED
from medgr2.models.prompts import (
    ANSWER,
    GENERATE_EMBEDDED,
    answering_text,
    chat,
    generating_text,
    load_prompt,
    reply_text,
)
from medgr2.schemas.vocabulary import QuestionType

REPORT = "CT, chest, nodule, grade mild, upper left"
OPTIONS = ("cyst", "nodule", "normal", "fibrosis")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--vllm", action="store_true", help="conversations with both engines, and nothing else")
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)")
    print(f"command: {' '.join(['python', 'benchmarks/engine_speed.py', *sys.argv[1:]])}")
    with tempfile.TemporaryDirectory() as folder:
        requests = make_requests(Path(folder), options.prompts, options.samples)
        drafts = options.prompts * options.samples
        if options.vllm:
            side_by_side(options, requests)
            return
        for dtype in ("float64", "float32"):
            engine = TransformersEngine(options.model, dtype=dtype, device=options.device)
            engine.complete(requests[:2])
            rate(f"engine {dtype}, drafts", drafts, lambda engine=engine: engine.complete(requests))
            rate(f"generate() {dtype}, drafts", drafts, lambda engine=engine: plain_generate(engine, requests))
            if dtype == "float64":
                alone = [requests[i : i + 1] for i in range(options.prompts)]
                rate(
                    "engine float64 one prompt a call, drafts",
                    drafts,
                    lambda e=engine, a=alone: [e.complete(r) for r in a],
                )
                asked = [answering(r) for r in requests]
                rate("lp readings", len(asked), lambda e=engine, a=asked: e.logprobs([one[0] for one in a]))
                rate("agree items (K = 8)", len(asked), lambda e=engine, a=asked: e.complete([one[1] for one in a]))


def side_by_side(options: argparse.Namespace, requests: list[Request]) -> None:
    """One conversation a draft, as a stage holds them: the prompts of the samples are the same, and vLLM sees that."""
    from medgr2.models.engines.vllm import VllmEngine

    seeded = [replace(request, seeds=(seed,)) for request in requests for seed in request.seeds]

    def held(engine: Engine) -> None:
        found = list(engine.hold((str(i), talk(request)) for i, request in enumerate(seeded)))
        assert all(one.trouble is None for one in found)

    ours = TransformersEngine(options.model, dtype="float32", device=options.device)
    rate("transformers float32, drafts held", len(seeded), lambda: held(ours))
    exact = TransformersEngine(options.model, device=options.device)
    rate("transformers float64, drafts held", len(seeded), lambda: held(exact))
    theirs = VllmEngine(options.model, GeneratorSettings(engine="vllm"), device=options.device)
    # The first of three finds the cache of prompts empty, the others do not: as with several samples of a picture.
    rate("vllm, drafts held", len(seeded), lambda: held(theirs))


def talk(request: Request) -> Conversation[Completion]:
    return (yield request)


def make_requests(folder: Path, prompts: int, samples: int) -> list[Request]:
    rng = np.random.default_rng(0)
    kinds, template = list(QuestionType), load_prompt(GENERATE_EMBEDDED)
    requests = []
    for i in range(prompts):
        path = folder / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        text = generating_text(template, kinds[i % 5], REPORT)
        requests.append(Request(path, text, seeds=tuple(range(samples)), max_new_tokens=64))
    return requests


def answering(request: Request) -> tuple[Reading, Request]:
    text = answering_text(load_prompt(ANSWER), "What is the diagnosis?", OPTIONS)
    reply = reply_text(f"{REPORT}, so nodule.", "B")
    return Reading(request.image_path, text, reply), Request(request.image_path, text, tuple(range(8)))


def plain_generate(engine: TransformersEngine, requests: list[Request]) -> None:
    """What the same rows cost without the engine: images and prompts read once, all samples in one call."""
    images = [Image.open(r.image_path).convert("RGB") for r in requests]
    texts = [engine.processor.apply_chat_template(chat(r.text), add_generation_prompt=True) for r in requests]
    inputs = engine.processor(
        text=texts, images=[[i] for i in images], padding=True, padding_side="left", return_tensors="pt"
    ).to(engine.device)
    with torch.inference_mode():
        engine.model.generate(
            **inputs, max_new_tokens=64, do_sample=True, top_k=0, num_return_sequences=len(requests[0].seeds)
        )


def rate(name: str, count: int, work: Any) -> None:
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        work()
        best = max(best, count / (time.process_time() - start))
    print(f"{name}: {best:.0f} per CPU-second (best of 3)")


if __name__ == "__main__":
    main()
