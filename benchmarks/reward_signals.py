"""How well do the gates, the signals and p(valid) find the valid items? Measured against the embedded world's oracle.

    python benchmarks/reward_signals.py [--images 400] [--audits 200] [--seed 11] [--model FOLDER]

The oracle runs as its own process and answers two questions only: the verdicts of the audited items (as people
would) and, for this table alone, the truth about the rest.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sklearn.metrics import roc_auc_score

from medgr2.infra.settings import Settings
from medgr2.models.calibration import Audit, fit, quality
from medgr2.models.engines.transformers import TransformersEngine
from medgr2.models.gates import GateContext, sift
from medgr2.models.generator import Manner, Wish, draft_conversation
from medgr2.models.model_ref import EMBEDDED
from medgr2.models.prompts import ANSWER, generating_text, load_prompt
from medgr2.models.signals import LOOKS, SIGNALS, Exam
from medgr2.models.styles import EMBEDDED as STYLE
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Draft, Item
from medgr2.schemas.parameters import GenerateParameters, ScoreParameters
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks import generate, score
from medgr2.tasks.asking import want


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--tau", type=float, default=0.8)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    print(f"command: {' '.join(['python', 'benchmarks/reward_signals.py', *sys.argv[1:]])}")
    print(f"weights: {weights(options.model)[:12]}")
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    truth = folder / "truth.jsonl"
    rows = hospital(options, folder / "hospital", truth)
    engine = TransformersEngine(options.model)
    parameters = GenerateParameters(samples=options.samples)
    recipe = generate.recipe(weights(options.model), parameters, Settings())
    cells = want(rows, recipe, STYLE, parameters).cells
    paths = {row["image_id"]: row["path"] for row in rows}
    manner = Manner(STYLE, parameters.temperature, STYLE.max_new_tokens)
    wishes = {
        cell.key: Wish(
            cell.image,
            lambda path=paths[cell.image]: path,  # type: ignore[misc]
            generating_text(recipe.prompt, cell.inputs["question_type"], cell.inputs["report"]),
            cell.seed,
        )
        for cell in cells
    }
    start = time.process_time()
    held = engine.hold((key, draft_conversation(wish, manner)) for key, wish in wishes.items())
    written = {one.name: one.result for one in held}
    spent = time.process_time() - start
    drafts = [written[cell.key] for cell in cells]
    items: dict[str, Item] = {}
    for cell, draft in zip(cells, drafts, strict=True):
        if isinstance(draft, Draft):
            item = Item(**draft.model_dump(), image_id=cell.image, question_type=cell.inputs["question_type"])
            items[item.item_id] = item
    valid = ask_oracle(items, truth)
    gated = sift(items.values(), GateContext())
    passed = [item_id for item_id, reasons in gated.items() if not reasons]
    print(f"drafts {len(drafts)} ({len(drafts) / spent:.0f} per CPU-second), parsed {share(len(items), len(drafts))}")
    print(f"valid among parsed {mean(valid, items)}, among gate-passed {mean(valid, passed)} ({len(passed)})")
    for question_type in QuestionType:
        print(f"  {question_type}: {mean(valid, [i for i in passed if items[i].question_type == question_type])}")
    for reason in sorted({r for reasons in gated.values() for r in reasons}):
        refused = [i for i, reasons in gated.items() if reason in reasons]
        print(f"  gate {reason}: {len(refused)} refused, {mean(valid, refused)} of them valid")
    judge_signals(options, engine, items, paths, passed, valid)


def judge_signals(
    options: argparse.Namespace,
    engine: TransformersEngine,
    items: dict[str, Item],
    paths: dict[str, Path],
    passed: list[str],
    valid: dict[str, bool],
) -> None:
    signals: dict[str, dict[str, float]] = {item_id: {} for item_id in passed}
    pictures = sorted(paths)
    for name, look in LOOKS.items():
        recipe = score.recipe(name, "scorer", ScoreParameters())
        exams = []
        for item_id in passed:
            item = items[item_id]
            seed = recipe.cell(image=item.image_id, parents=(item_id,)).seed
            at = pictures.index(item.image_id)
            others = tuple(paths[pictures[(at + n * len(pictures) // 4) % len(pictures)]] for n in (1, 2, 3))
            exams.append(
                Exam(paths[item.image_id], item.question, item.options, item.answer, item.rationale, seed, others)
            )
        start = time.process_time()
        for item_id, record in zip(
            passed, look.measure(engine, load_prompt(ANSWER), exams, recipe.parameters), strict=True
        ):
            signals[item_id].update({signal: record[signal] for signal in look.signals})
        print(f"{name}: {len(exams) / (time.process_time() - start):.0f} items per CPU-second")
    order = list(passed)
    random.Random(options.seed).shuffle(order)
    audited, rest = order[: options.audits], order[options.audits :]
    calibration = fit([Audit(i, signals[i], valid[i]) for i in audited], scorer="scorer")
    truth = [valid[i] for i in rest]
    for name in SIGNALS:
        print(f"AUROC {name}: {roc_auc_score(truth, [signals[i][name] for i in rest]):.3f}")
    p = {i: calibration.p(signals[i]) or 0.0 for i in rest}
    found = quality([p[i] for i in rest], truth)
    weight = dict(zip(calibration.features, calibration.weights, strict=True))
    inside = calibration.cross_validated
    print(f"calibrated on {len(audited)} audits, weights {weight}")
    print(f"cross-validated on the audits: AUROC {inside.auroc:.3f}, ECE {inside.ece:.3f}")
    print(f"on the {len(rest)} others: AUROC {found.auroc:.3f}, ECE {found.ece:.3f}")
    for tau in sorted({0.5, 0.7, options.tau, 0.9}):
        kept = [i for i in rest if p[i] >= tau]
        print(f"  tau {tau}: keeps {share(len(kept), len(rest))}, precision {mean(valid, kept)}")


def hospital(options: argparse.Namespace, out: Path, truth: Path) -> list[dict[str, Any]]:
    command = ["-m", "medgr2_phantoms.hospital", "--out", str(out), "--truth", str(truth)]
    numbers = {"images": options.images, "seed-qa": 20, "heldout": 10, "seed": options.seed}
    for name, number in numbers.items():
        command += [f"--{name}", str(number)]
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    rows = []
    with (out / "labels.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            path = next(p for p in (out / row["file"], out / "images" / row["file"]) if p.is_file())
            rows.append({**row, "path": path, "image_id": sha256_hex(path.read_bytes())})
    return rows


def ask_oracle(items: dict[str, Item], truth: Path) -> dict[str, bool]:
    lines = [
        json.dumps({**item.model_dump(mode="json", exclude={"image_id"}), "item_id": i, "image_sha256": item.image_id})
        for i, item in items.items()
    ]
    done = subprocess.run(
        [sys.executable, "-m", "medgr2_phantoms.oracle", "--truth", str(truth)],
        input="\n".join(lines), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {row["item_id"]: bool(row["valid"]) for row in map(json.loads, done.stdout.splitlines())}


def weights(folder: Path) -> str:
    return sha256_hex((folder / "model.safetensors").read_bytes())


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / max(whole, 1):.3f})"


def mean(valid: dict[str, bool], ids: Any) -> str:
    ids = list(ids)
    return f"{sum(valid[i] for i in ids) / len(ids):.3f}" if ids else "none"


if __name__ == "__main__":
    main()
