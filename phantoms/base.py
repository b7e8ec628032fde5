"""`python -m medgr2_phantoms.base --out DIR`: build the tiny model and pre-train it on the clean site.

With `--student`, the one that policies start from: it answers only, has seen far fewer pictures and none in fog.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medgr2_phantoms.lessons import Album, Kind, Style, fill_album, make_batch
from medgr2_phantoms.questions import LETTERS
from medgr2_phantoms.tinyvlm import build_model, build_processor, build_tokenizer

PEAK_RATE = 2e-3
WARMUP = 300
LETTER_WEIGHT = 8.0  # the letter is one token in twenty; at weight 1 it binds late


class Stage(NamedTuple):
    """A stretch of the curriculum: at most so many steps, what a batch holds, in which style, and when it may end."""

    steps: int
    lessons: dict[Kind, int]
    style: Style = "long"
    until: float = 0.0
    """Ends early once the smoothed answering loss has stayed below this for STEADY steps."""


STEADY = 200
CURRICULUM = (
    Stage(700, {"captioning": 64}),  # first read the picture,
    Stage(7_300, {"captioning": 13, "answering": 38, "generating": 13}, until=0.05),  # then bind letters to options,
    Stage(4_000, {"captioning": 6, "answering": 20, "generating": 38}, style="final"),  # then write whole questions
)

PICTURES, SEEN_BY_STUDENT = 40_000, 3_000
STUDENT = (
    Stage(700, {"captioning": 64}),
    Stage(7_300, {"captioning": 16, "answering": 48}, until=0.05),
    Stage(1_200, {"captioning": 8, "answering": 40}, style="clear"),
)


def rate_at(step: int, done: float) -> float:
    """Warm-up, a plateau, and over the last stage, of which a share is done, a cosine to zero."""
    return PEAK_RATE * min(1.0, (step + 1) / WARMUP) * 0.5 * (1.0 + math.cos(math.pi * done))


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


def pretrain(model: Any, tokenizer: Any, album: Album, curriculum: Sequence[Stage], seed: int) -> None:
    """Walk through the curriculum, printing smoothed losses."""
    import torch

    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    weights = torch.ones(len(tokenizer))
    weights[[tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS]] = LETTER_WEIGHT
    model.train()
    started, recent, step = time.process_time(), dict[Kind, float](), 0
    for number, stage in enumerate(curriculum, start=1):
        steady = 0
        for own in range(stage.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, own / stage.steps if number == len(curriculum) else 0.0)
            optimizer.zero_grad(set_to_none=True)
            for kind, count in stage.lessons.items():
                indices = rng.integers(len(album.scenes), size=count)
                batch = make_batch(album, indices, kind, stage.style, tokenizer, rng)
                total, weight = loss_of(model, batch, weights)
                (total / weight * (count / sum(stage.lessons.values()))).backward()
                loss = float((total / weight).detach())
                recent[kind] = 0.98 * recent.get(kind, loss) + 0.02 * loss
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            steady = steady + 1 if recent.get("answering", math.inf) < stage.until else 0
            if step % 250 == 0 or own + 1 == stage.steps or steady == STEADY:
                losses = "  ".join(f"{kind} {loss:.4f}" for kind, loss in recent.items())
                minutes = (time.process_time() - started) / 60
                print(f"stage {number}, step {step}  {losses}  cpu {minutes:.1f} min", flush=True)
            if steady == STEADY:
                break
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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--student", action="store_true", help="the model that policies start from")
    chosen = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    random.seed(chosen.seed)
    tokenizer = build_tokenizer(chosen.seed)
    processor, model = build_processor(tokenizer), build_model(tokenizer, chosen.seed)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens", flush=True)
    pictures = SEEN_BY_STUDENT if chosen.student else PICTURES
    album = fill_album(pictures, "clean", chosen.seed + 1)
    pretrain(model, tokenizer, album, STUDENT if chosen.student else CURRICULUM, chosen.seed + 2)
    save(model, processor, chosen.out)
    from medgr2_phantoms.measure import report

    report(chosen.out, chosen.seed + 3)
    print(f"{time.process_time() / 60:.1f} CPU minutes in all")


if __name__ == "__main__":
    main()
