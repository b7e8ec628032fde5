"""`python -m medgr2_phantoms.base --out DIR`: build the tiny model and pre-train it on the clean site."""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medgr2_phantoms.lessons import Album, Kind, fill_album, make_batch
from medgr2_phantoms.questions import LETTERS
from medgr2_phantoms.tinyvlm import build_model, build_processor, build_tokenizer

PEAK_RATE = 2e-3
WARMUP = 300
LETTER_WEIGHT = 8.0  # the letter is one token in twenty; at weight 1 it binds late


class Phase(NamedTuple):
    """A stretch of the curriculum: until which share of the steps, and how many of each lesson are in a batch."""

    until: float
    lessons: dict[Kind, int]


CURRICULUM = (
    Phase(0.08, {"captioning": 64}),  # first read the picture,
    Phase(0.45, {"captioning": 13, "answering": 38, "generating": 13}),  # then bind letters to options,
    Phase(1.00, {"captioning": 6, "answering": 20, "generating": 38}),  # then write whole questions
)


def rate_at(step: int, steps: int) -> float:
    """Warm-up, a plateau, and a cosine tail over the last quarter."""
    if step < WARMUP:
        return PEAK_RATE * (step + 1) / WARMUP
    tail = max(0.0, (step - 0.75 * steps) / (0.25 * steps))
    return PEAK_RATE * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, tail))))


def loss_of(model: Any, batch: Any, weights: Any) -> tuple[Any, Any]:
    """Summed weighted cross-entropy over the reply's tokens and the weight; the head runs on those positions only."""
    import torch

    hidden = model.model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.pixel_values,
        use_cache=False,
    ).last_hidden_state[:, :-1]
    wanted = batch.labels[:, 1:]
    spoken = wanted != -100
    logits = model.lm_head(hidden[spoken])
    total = torch.nn.functional.cross_entropy(logits, wanted[spoken], weight=weights, reduction="sum")
    return total, weights[wanted[spoken]].sum()


def pretrain(model: Any, tokenizer: Any, album: Album, steps: int, seed: int) -> None:
    """Walk through the curriculum, printing smoothed losses."""
    import torch

    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    weights = torch.ones(len(tokenizer))
    weights[[tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS]] = LETTER_WEIGHT
    model.train()
    started, recent = time.process_time(), dict[Kind, float]()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps)
        optimizer.zero_grad(set_to_none=True)
        lessons = next(phase.lessons for phase in CURRICULUM if step < phase.until * steps)
        for kind, count in lessons.items():
            indices = rng.integers(len(album.scenes), size=count)
            batch = make_batch(album, indices, kind, tokenizer, rng)
            total, weight = loss_of(model, batch, weights)
            (total / weight * (count / sum(lessons.values()))).backward()
            loss = float((total / weight).detach())
            recent[kind] = 0.98 * recent.get(kind, loss) + 0.02 * loss
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 250 == 0:
            losses = "  ".join(f"{kind} {loss:.4f}" for kind, loss in recent.items())
            print(f"step {step + 1}/{steps}  {losses}  cpu {(time.process_time() - started) / 60:.1f} min", flush=True)
    model.eval()


def save(model: Any, processor: Any, out: Path) -> None:
    """Write what the Auto classes read; the size is checked because the files ship with the package."""
    processor.save_pretrained(out)
    model.save_pretrained(out)
    for path in out.iterdir():
        path.chmod(0o644)  # safetensors are written for the owner alone, but these files are installed for everyone
    size = sum(path.stat().st_size for path in out.iterdir())
    if size > 5_000_000:
        raise SystemExit(f"{out} holds {size} bytes; the shipped base must stay under 5 MB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m medgr2_phantoms.base", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for model, tokenizer and processor")
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    random.seed(chosen.seed)
    tokenizer = build_tokenizer(chosen.seed)
    processor, model = build_processor(tokenizer), build_model(tokenizer, chosen.seed)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens", flush=True)
    album = fill_album(chosen.pictures, "clean", chosen.seed + 1)
    pretrain(model, tokenizer, album, chosen.steps, chosen.seed + 2)
    save(model, processor, chosen.out)
    from medgr2_phantoms.measure import report

    report(chosen.out, chosen.seed + 3)
    print(f"{time.process_time() / 60:.1f} CPU minutes in all")


if __name__ == "__main__":
    main()
