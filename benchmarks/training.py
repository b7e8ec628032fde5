"""What training costs and what it gains on the embedded world: `python benchmarks/training.py [--heldout N]`.

Prints CPU seconds of a step through TRL beside a bare loop over the same batches, and accuracy on the held-out ward:
of the base, after SFT on the human seed, after SFT on the seed and 400 more true questions of which 8% have a wrong
key (a stand-in for what passes the reward layer, so that this needs no night), and after GRPO on the band of those.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medgr2.models import prompts
from medgr2.models.engines.seam import Request
from medgr2.models.engines.transformers import TransformersEngine
from medgr2.models.grpo import GrpoSettings, Prompt, in_band, train_grpo
from medgr2.models.measures import Answer, summarise
from medgr2.models.promotion_gate import decide
from medgr2.models.sft import Example, SftSettings, train_sft
from medgr2.models.training import read_image, schedule

BASE = Path(__file__).parents[1] / "models" / "base"
TEMPLATE = prompts.load_prompt(prompts.ANSWER)
Row = dict[str, Any]


def hospital(folder: Path, seed_qa: int, heldout: int) -> Path:
    """The same cohort whatever is asked about it: images and patients depend on the seed alone."""
    command = ["-m", "medgr2_phantoms.hospital", "--out", str(folder), "--truth", str(folder) + ".truth"]
    numbers = ["--images", "800", "--seed-qa", str(seed_qa), "--heldout", str(heldout), "--seed", "1"]
    subprocess.run([sys.executable, *command, *numbers], check=True, stdout=subprocess.DEVNULL)
    return folder


def rows(folder: Path, name: str) -> list[Row]:
    found = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [row | {"path": folder / row["file"]} for row in found]


def example(row: Row, weight: float) -> Example:
    asked = prompts.answering_text(TEMPLATE, row["question"], row["options"])
    return Example(row["path"], asked, prompts.reply_text(row["rationale"], row["answer"]), weight)


def exam(model: Path, heldout: Sequence[Row], modality: dict[str, str], grey: Path | None = None) -> list[Answer]:
    asked = [
        Request(grey or r["path"], prompts.answering_text(TEMPLATE, r["question"], r["options"]), temperature=0.0)
        for r in heldout
    ]
    letters = [prompts.parse_answer(c[0].text, 4) for c in TransformersEngine(model).complete(asked)]
    return [
        Answer(str(i), r["file"], modality[r["file"]], r["question_type"], letter == r["answer"], letter is not None)
        for i, (r, letter) in enumerate(zip(heldout, letters, strict=True))
    ]


def pass_rates(model: Path, asked: Sequence[Row]) -> list[float]:
    requests = [
        Request(r["path"], prompts.answering_text(TEMPLATE, r["question"], r["options"]), seeds=tuple(range(8)))
        for r in asked
    ]
    answers = TransformersEngine(model).complete(requests)
    return [
        sum(prompts.parse_answer(c.text, 4) == r["answer"] for c in completions) / 8
        for r, completions in zip(asked, answers, strict=True)
    ]


def cpu(what: str, steps: int, run: Callable[[], Any]) -> None:
    before = time.process_time()
    run()
    spent = time.process_time() - before
    print(f"  {what}: {spent:.1f} CPU s, {1000 * spent / steps:.0f} ms a step", flush=True)


def bare_loop(examples: Sequence[Example], steps: int) -> None:
    """The least that the same training could cost: TRL's collator, the model's own forward, no trainer."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    torch.set_num_threads(1)
    model = AutoModelForImageTextToText.from_pretrained(BASE, local_files_only=True, dtype="float32").train()
    processor = AutoProcessor.from_pretrained(BASE, local_files_only=True)
    collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    order = schedule([1.0] * len(examples), steps * 16, 0)
    for step in range(steps):
        some = [examples[i] for i in order[step * 16 : step * 16 + 16]]
        batch = collate(
            [
                {
                    "prompt": [{"role": "user", "content": e.user}],
                    "completion": [{"role": "assistant", "content": e.assistant}],
                    "images": [read_image(e.image)],
                }
                for e in some
            ]
        )
        labels = batch.pop("labels")[:, 1:]
        hidden = model.model(**batch, use_cache=False).last_hidden_state[:, :-1]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[labels != -100]), labels[labels != -100])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heldout", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, Python {platform.python_version()}, one thread; command: {' '.join(sys.argv)}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        ward = hospital(work / "ward", 150, chosen.heldout)
        wide = hospital(work / "wide", 550, chosen.heldout)
        modality = {r["file"]: r["modality"] or "?" for r in csv.DictReader((ward / "labels.csv").open())}
        heldout, seed = rows(ward, "heldout.jsonl"), rows(ward, "seed_qa.jsonl")
        taken = {(r["file"], r["question"]) for r in [*seed, *heldout]}
        more = [r for r in rows(wide, "seed_qa.jsonl") if (r["file"], r["question"]) not in taken][:400]
        rng = random.Random(chosen.seed)
        for row in more:
            if rng.random() < 0.08:
                row["answer"] = rng.choice([letter for letter in "ABCD" if letter != row["answer"]])
        grey = work / "grey.png"
        from PIL import Image

        Image.new("RGB", (64, 64), (128, 128, 128)).save(grey)
        before: list[Answer] | None = None

        def mark(what: str, model: Path) -> None:
            nonlocal before
            seen, blank = exam(model, heldout, modality), exam(model, heldout, modality, grey)
            s, d = summarise(seen, blank), decide(seen, before, blank=blank)
            print(
                f"{what}: micro {s.micro.text()}, macro {s.macro.value:.3f}, "
                f"blank {s.blank:.3f}, unreadable {s.unparsed:.3f}; {'promote' if d.promote else 'keep'}: "
                f"{'; '.join(d.reasons)}",
                flush=True,
            )
            before = seen

        mark("base", BASE)
        small = [example(r, 1.0) for r in seed]
        train_sft(BASE, small, work / "first", SftSettings(steps=1))  # imports are not counted below
        cpu("bare loop, 50 steps", 50, lambda: bare_loop(small, 50))
        settings = SftSettings(steps=150, seed=chosen.seed)
        cpu("SFT of 150 steps x 16", 150, lambda: train_sft(BASE, small, work / "seed", settings))
        mark("SFT(seed)", work / "seed")
        both = [example(r, 0.3 / len(seed)) for r in seed] + [example(r, 0.7 / len(more)) for r in more]
        longer = SftSettings(steps=300, seed=chosen.seed)
        cpu("SFT of 300 steps x 16", 300, lambda: train_sft(BASE, both, work / "both", longer))
        mark("SFT(seed + 400)", work / "both")
        rates = pass_rates(work / "both", more)
        band = [
            Prompt(r["path"], prompts.answering_text(TEMPLATE, r["question"], r["options"]), r["answer"], 4, 0.9)
            for r, rate in zip(more, rates, strict=True)
            if in_band(rate)
        ]
        print(f"  {len(band)} of {len(more)} items are in the difficulty band", flush=True)
        grpo = GrpoSettings(steps=40, seed=chosen.seed)
        cpu("GRPO of 40 steps x 8 x 8", 40, lambda: train_grpo(work / "both", band, work / "grpo", grpo))
        mark("+ GRPO", work / "grpo")


if __name__ == "__main__":
    main()
