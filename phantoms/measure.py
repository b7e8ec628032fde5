"""`python -m medgr2_phantoms.measure --base DIR`: how well the shipped base answers and writes, on fresh phantoms."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medgr2_phantoms.questions import QUESTION_TYPES, Question, ask, fixed_label, generating_prompt
from medgr2_phantoms.reports import WRONG, write_report
from medgr2_phantoms.world import SIDE, Scene, Site, draw, sample_scene

CHUNK = 250


class Sitter:
    """The model as its users load it: through the Auto classes, offline, with its own chat template."""

    def __init__(self, base: Path) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.processor = AutoProcessor.from_pretrained(base, local_files_only=True)
        self.model = AutoModelForImageTextToText.from_pretrained(base, local_files_only=True).eval()

    def write(self, images: Sequence[Any], texts: Sequence[str], temperature: float, max_new_tokens: int) -> list[str]:
        """One reply for each image and text; temperature 0 is greedy."""
        import torch

        replies: list[str] = []
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        for start in range(0, len(texts), CHUNK):
            prompts = [
                self.processor.apply_chat_template(
                    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}],
                    add_generation_prompt=True,
                )
                for text in texts[start : start + CHUNK]
            ]
            pictures = [[image] for image in images[start : start + CHUNK]]
            inputs = self.processor(images=pictures, text=prompts, padding=True, return_tensors="pt")
            with torch.inference_mode():
                output = self.model.generate(**inputs, max_new_tokens=max_new_tokens, **sampling)
            said = output[:, inputs["input_ids"].shape[1] :]
            replies += self.processor.batch_decode(said, skip_special_tokens=True)
        return replies


class Sheet(NamedTuple):
    """Images with one question each, types in turn and keys even over their labels."""

    scenes: list[Scene]
    images: list[Any]
    questions: list[Question]
    reports: list[str]


def prepare(count: int, site: Site, seed: int) -> Sheet:
    rng = np.random.default_rng(seed)
    sheet = Sheet([], [], [], [])
    for number in range(count):
        question_type = QUESTION_TYPES[number % len(QUESTION_TYPES)]
        scene = sample_scene(rng, **fixed_label(question_type, rng))
        sheet.scenes.append(scene)
        sheet.images.append(draw(scene, site))
        sheet.questions.append(ask(scene, question_type, rng))
        sheet.reports.append(write_report(scene, WRONG[site], rng))
    return sheet


def shares(questions: Sequence[Question], hits: Sequence[bool]) -> dict[str, float]:
    """The share of hits per question type and over all."""
    table = {"all": sum(hits) / len(hits)}
    for question_type in QUESTION_TYPES:
        own = [hit for question, hit in zip(questions, hits, strict=True) if question.question_type == question_type]
        table[question_type] = sum(own) / len(own)
    return table


def answering(sitter: Sitter, sheet: Sheet, blank: bool = False) -> dict[str, float]:
    """Greedy accuracy with the rationale thought first; an unparsable reply is wrong."""
    from PIL import Image

    images = [Image.new("RGB", (SIDE, SIDE), (128, 128, 128))] * len(sheet.images) if blank else sheet.images
    replies = sitter.write(images, [question.prompt() for question in sheet.questions], 0.0, 40)
    found = [re.search(r"<answer>([A-D])</answer>", reply) for reply in replies]
    hits = [f is not None and f[1] == q.answer for f, q in zip(found, sheet.questions, strict=True)]
    return shares(sheet.questions, hits)


def generating(sitter: Sitter, sheet: Sheet) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """Parse rate, oracle-valid share and reasons of questions written at temperature 1 with the noisy report."""
    prompts = [
        generating_prompt(question.question_type, report)
        for question, report in zip(sheet.questions, sheet.reports, strict=True)
    ]
    requests, parsed = [], []
    for index, reply in enumerate(sitter.write(sheet.images, prompts, 1.0, 80)):
        try:
            item = json.loads(reply)
            parsed.append(isinstance(item, dict) and set(item) == {"question", "options", "answer", "rationale"})
        except ValueError:
            parsed.append(False)
        if parsed[-1]:
            context = {
                "item_id": str(index),
                "image_sha256": hashlib.sha256(sheet.images[index].tobytes()).hexdigest(),
                "question_type": sheet.questions[index].question_type,
            }
            requests.append(json.dumps({**item, **context}))
    valid, reasons = consult_oracle(requests, sheet)
    hits = [str(index) in valid for index in range(len(parsed))]
    return shares(sheet.questions, parsed), shares(sheet.questions, hits), reasons


def consult_oracle(requests: Sequence[str], sheet: Sheet) -> tuple[set[str], dict[str, int]]:
    """The ids that the oracle, in its own process, finds valid, and how often it gave each reason."""
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.jsonl"
        with truth.open("w", encoding="utf-8") as stream:
            for image, scene in zip(sheet.images, sheet.scenes, strict=True):
                sha = hashlib.sha256(image.tobytes()).hexdigest()
                stream.write(json.dumps({"image_sha256": sha, "scene": scene.model_dump()}) + "\n")
        answered = subprocess.run(
            [sys.executable, "-m", "medgr2_phantoms.oracle", "--truth", str(truth)],
            input="\n".join(requests),
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
    verdicts = [json.loads(line) for line in answered.stdout.splitlines()]
    reasons: dict[str, int] = {}
    for verdict in verdicts:
        kind = "contradicting rationale" if "rationale says" in verdict["reason"] else verdict["reason"]
        reasons[kind] = reasons.get(kind, 0) + 1
    return {verdict["item_id"] for verdict in verdicts if verdict["valid"]}, reasons


def report(base: Path, seed: int, count: int = 1500) -> None:
    """Print the table that docs/embedded-world.md shows."""
    import torch

    torch.manual_seed(seed)
    sitter = Sitter(base)
    clean, ward = prepare(count, "clean", seed), prepare(count, "ward", seed + 1)
    parsed, valid, reasons = generating(sitter, ward)
    columns = {
        "clean": answering(sitter, clean),
        "ward": answering(sitter, ward),
        "blank": answering(sitter, ward, blank=True),
        "parsed": parsed,
        "valid": valid,
    }
    print(f"{'question type':<28}" + "".join(f"{name:>8}" for name in columns) + f"   ({count} questions a column)")
    for row in ("all", *QUESTION_TYPES):
        print(f"{row:<28}" + "".join(f"{column[row]:>8.3f}" for column in columns.values()))
    print("written on the ward: " + ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items())))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m medgr2_phantoms.measure", description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="folder with the model, such as models/base")
    parser.add_argument("--count", type=int, default=1500, help="questions in each column")
    parser.add_argument("--seed", type=int, default=3)
    chosen = parser.parse_args()
    report(chosen.base, chosen.seed, chosen.count)


if __name__ == "__main__":
    main()
