"""What scoring costs: forward passes and tokens of the scorer and of a trained reward, needed, done and to spare.

    OMP_NUM_THREADS=1 python benchmarks/scoring_passes.py [--images 80] [--rounds 3] [--members 3] [--one-each]

Pictures of the embedded world are drawn, drafts generated and gated, and `tasks.score.measure` looks at what passed, as
a night does. What is done is counted in the models' forward, not by the code that asks. What is needed is told by what
each look asks of the engine for one item alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any

from medgr2.infra.artifacts import put_folder
from medgr2.infra.settings import ComputeSettings, ModelSettings, Settings, StorageSettings
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.engines import transformers as engine_module
from medgr2.models.engines.chats import ChatWriter, open_picture
from medgr2.models.engines.seam import Completion, Request
from medgr2.models.engines.transformers import Examined, Found, TransformersEngine, load_engine
from medgr2.models.gates import GateContext, sift
from medgr2.models.judging import JUDGE, Claim
from medgr2.models.model_ref import EMBEDDED, base_model, materialise
from medgr2.models.prompts import load_prompt
from medgr2.models.reward_model import Ensemble, load_reward
from medgr2.models.signals import LOOKS, Exam, Look
from medgr2.models.training import RECORD
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import GenerateParameters, ScoreParameters
from medgr2.schemas.reports import Plan
from medgr2.tasks import score
from medgr2.tasks.generate import drafted, generate
from medgr2.tasks.reward_folds import FOLDS
from medgr2.tasks.score_reward import members, place

TERMS = """\
reading   One prompt about one picture, read to its end by the model. An item needs one for each pair of them that a
          signal has to see; samples and judged replies that follow the same prompt need no other.
picture   An image that goes through the vision tower. Needed: each one that an item is shown with, once.
token     A place of a sequence that goes through the model. Needed: the places of an item's readings, what they have
          in common with another about the same picture once; and each token that is sampled or judged.
          Done: all, padding too.
surplus   Tokens done less tokens needed, in passes: divided by the mean length of a reading.
no stems  The same looks, with no beginning of a prompt shared with another prompt about the same picture.
naive     Each signal and each sample by itself: nothing is shared, but batches are as large."""


@dataclass
class Counts:
    readings: float = 0
    tokens: float = 0
    pictures: float = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.readings + other.readings, self.tokens + other.tokens, self.pictures + other.pictures)

    def of(self, items: int) -> Counts:
        return Counts(self.readings / items, self.tokens / items, self.pictures / items)


@contextmanager
def counted(kind: type) -> Iterator[Counts]:
    """What models of this class do meanwhile."""
    seen, forward, opened = Counts(), kind.forward, 0  # type: ignore[attr-defined]

    def counting(model: Any, **given: Any) -> Any:
        nonlocal opened
        rows, width = given["input_ids"].shape
        seen.tokens += rows * width
        if given.get("pixel_values") is not None:
            opened = rows
            seen.pictures += rows
            seen.readings += rows
        elif given.get("logits_to_keep") == 1:  # the rest of prompts whose beginning was read a call before
            seen.readings += rows - opened
        return forward(model, **given)

    kind.forward = counting  # type: ignore[attr-defined]
    try:
        yield seen
    finally:
        kind.forward = forward  # type: ignore[attr-defined]


class Spy:
    """An engine that keeps what it was asked and what came of it, with pictures that last."""

    def __init__(self, engine: TransformersEngine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self.heard: list[tuple[Examined, Found]] = []

    def examine(self, asked: Sequence[Examined]) -> list[Found]:
        found = self._engine.examine(asked)
        self.heard += [(self._lasting(one), result) for one, result in zip(asked, found, strict=True)]
        return found

    def complete(self, requests: Sequence[Request]) -> list[list[Completion]]:
        return [found.completions for found in self.examine([Examined(request) for request in requests])]

    def _lasting(self, one: Examined) -> Examined:
        source = one.request.image_path
        assert source is not None
        kept = self._folder / sha256_hex(source.read_bytes())
        if not kept.exists():
            shutil.copyfile(source, kept)
        return replace(one, request=replace(one.request, image_path=kept))


class Recorded:
    """A look, and each batch that it was given."""

    def __init__(self, look: Look) -> None:
        self.look, self.batches = look, list[tuple[str, list[Exam], Mapping[str, Any]]]()
        self.name, self.signals, self.code, self.parameters = look.name, look.signals, look.code, look.parameters

    def measure(
        self, engine: TransformersEngine, prompt: str, exams: Sequence[Exam], parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        self.batches.append((prompt, list(exams), parameters))
        return self.look.measure(engine, prompt, exams, parameters)

    def run(self, engine: Any) -> None:
        for prompt, exams, parameters in self.batches:
            self.look.measure(engine, prompt, exams, parameters)

    def alone(self, engine: TransformersEngine, folder: Path) -> dict[str, list[tuple[Examined, Found]]]:
        """What it asks for each exam."""
        heard = {}
        for prompt, exams, parameters in self.batches:
            for exam in exams:
                spy = Spy(engine, folder)
                self.look.measure(spy, prompt, [exam], parameters)  # type: ignore[arg-type]
                heard[f"{exam.image_path}{exam.question}{exam.options}{exam.rationale}{exam.answer}"] = spy.heard
        return heard


@dataclass
class Reader:
    """Prompts in tokens, the picture's places among them."""

    processor: Any
    known: dict[tuple[Path | None, str], tuple[int, ...]] = field(default_factory=dict)

    def ids(self, request: Request) -> tuple[int, ...]:
        name = (request.image_path, request.text)
        if name not in self.known:
            text = ChatWriter(self.processor).write(request)
            picture = [[open_picture(request.image_path)]]
            read = self.processor(text=[text], images=picture, add_special_tokens=False, return_tensors="pt")
            self.known[name] = tuple(read["input_ids"][0].tolist())
        return self.known[name]

    def needs(self, heard: Sequence[tuple[Examined, Found]]) -> Counts:
        """Of one item."""
        prompts = defaultdict(set)
        after = 0
        for one, found in heard:
            prompts[one.request.image_path].add(self.ids(one.request))
            # The first token follows from the reading; the one that ends a reply is drawn and not read.
            after += sum(c.tokens - (not c.finished) for c in found.completions)
            after += found.logprob.tokens - 1 if found.logprob else 0
        shared = sum(len({p[:n] for p in of for n in range(1, len(p) + 1)}) for of in prompts.values())
        return Counts(sum(map(len, prompts.values())), shared + after, len(prompts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--members", type=int, default=3, help="of the reward")
    parser.add_argument("--one-each", action="store_true", help="one item of each picture: hardly two share one")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    print(f"command: {' '.join(['python', 'benchmarks/scoring_passes.py', *sys.argv[1:]])}")
    print(TERMS)
    with tempfile.TemporaryDirectory() as folder:
        night(options, Path(folder))


def night(options: argparse.Namespace, folder: Path) -> None:
    settings = Settings(
        storage=StorageSettings(root=str(folder / "root")),
        compute=ComputeSettings(mode="inline"),
        models=ModelSettings(base="embedded" if options.model == EMBEDDED else str(options.model)),
    )
    workspace = open_workspace(settings)
    images = hospital(options, folder / "hospital", workspace)
    scorer = base_model(settings).revision
    reward = put_folder(workspace.store, made_reward(options, folder / "reward"))
    generate(workspace, GenerateParameters(), images, model=scorer, run="night", announce=lambda _: None)
    items = drafted(workspace, GenerateParameters(), images, model=scorer, run="night")
    gated = sift(items, GateContext())
    passed = [item for item in items if not gated[item.item_id]]
    if options.one_each:
        passed = list({item.image_id: item for item in passed}.values())
    engine = load_engine(materialise(scorer, settings).folder, dtype="float64")
    judges = [load_reward(member, dtype="float64") for member in members(materialise(reward, settings).folder, 0)]
    print(f"\n{len(passed)} items; every figure is for one of them")

    looks = {name: Recorded(look) for name, look in LOOKS.items()}
    LOOKS.update(looks)
    done = as_a_night(workspace, passed, type(engine.model), scorer, reward)

    reader, pictures = Reader(engine.processor), folder / "pictures"
    pictures.mkdir()
    heard = {name: look.alone(engine, pictures) for name, look in looks.items()}
    needed = {name: total([reader.needs(of_one) for of_one in found.values()]) for name, found in heard.items()}
    whole = total([reader.needs([one for of in heard.values() for one in of[item]]) for item in heard["answers"]])
    length = fmean(map(len, reader.known.values()))
    naive = {
        name: one_by_one(engine, [e for of_one in found.values() for e, _ in of_one]) for name, found in heard.items()
    }
    work: dict[str, Callable[[], object]] = {name: lambda look=look: look.run(engine) for name, look in looks.items()}  # type: ignore[misc]
    print(f"a reading is {length:.1f} tokens long, {engine_places(reader)} of them the picture's")
    print(
        f"\n{'':10}{'readings':>19}{'pictures':>19}{'tokens':>19}{'surplus':>9}   {'naive readings':>14}{'tokens':>8}"
    )
    print(f"{'':10}{'needed':>10}{'done':>9}{'needed':>10}{'done':>9}{'needed':>10}{'done':>9}{'passes':>9}")
    n = len(passed)
    for name in looks:
        with counted(type(engine.model)) as apart:
            naive[name]()
        row(name, needed[name].of(n), done[name].of(n), length, apart.of(n))
    row("together", whole.of(n), total([done[name] for name in looks]).of(n), length)
    with no_stems(), counted(type(engine.model)) as whole_prompts:
        for look in looks.values():
            look.run(engine)
    row("no stems", whole.of(n), whole_prompts.of(n), length)
    ensemble, claims = Ensemble(judges), [claim_of(exam) for _, exams, _ in looks["answers"].batches for exam in exams]
    once = Counts(n * len(judges), sum(real_tokens(judges, claims)), n * len(judges))
    row("reward", once.of(n), done["reward"].of(n), once.tokens / once.readings)
    work["reward"] = lambda: [ensemble.judge(claims[i : i + score.BATCH]) for i in range(0, n, score.BATCH)]
    print(f"\nCPU ms an item, median of {options.rounds} rounds")
    clock(n, options.rounds, work, naive)


def as_a_night(workspace: Workspace, passed: list[Item], kind: type, scorer: str, reward: str) -> dict[str, Counts]:
    """What each stage of a night's scoring makes the models do."""
    before: dict[str, Counts] = {}
    with counted(kind) as seen:

        def turn(plan: Plan) -> None:
            before[plan.stage.removeprefix("score-")] = replace(seen)

        score.measure(workspace, passed, ScoreParameters(), scorer=scorer, reward=reward, run="night", announce=turn)
    after = [*list(before.values())[1:], seen]
    return {
        name: Counts(b.readings - a.readings, b.tokens - a.tokens, b.pictures - a.pictures)
        for (name, a), b in zip(before.items(), after, strict=True)
    }


def one_by_one(engine: TransformersEngine, asked: Sequence[Examined]) -> Callable[[], None]:
    """The same questions, each sample and each judged reply with a reading of its own."""
    single = [
        part
        for one in asked
        for part in [
            *(Examined(replace(one.request, seeds=(seed,))) for seed in one.request.seeds),
            *([Examined(replace(one.request, seeds=()), one.completion)] if one.completion is not None else []),
        ]
    ]

    def run() -> None:
        with no_stems():
            engine.examine(single)

    return run


@contextmanager
def no_stems() -> Iterator[None]:
    """Every prompt is read whole, as if no other were about the same picture."""
    share = engine_module.spares
    engine_module.spares = lambda *_: False
    try:
        yield
    finally:
        engine_module.spares = share


def clock(n: int, rounds: int, work: dict[str, Callable[[], object]], naive: dict[str, Callable[[], None]]) -> None:
    spent = defaultdict(list)
    for _ in range(rounds):
        for kind, tasks in (("shared", work), ("naive", naive)):
            for name, task in tasks.items():
                start = time.process_time()
                task()
                spent[kind, name].append(1000 * (time.process_time() - start) / n)
    print(f"{'':10}{'shared':>10}{'naive':>10}")
    for name in work:
        apart = f"{median(spent['naive', name]):10.2f}" if name in naive else ""
        print(f"{name:10}{median(spent['shared', name]):10.2f}{apart}")
    sums = [median(map(sum, zip(*(spent[kind, name] for name in naive), strict=True))) for kind in ("shared", "naive")]
    print(f"{'together':10}{sums[0]:10.2f}{sums[1]:10.2f}   (without the reward, which has one way only)")


def row(name: str, needed: Counts, done: Counts, length: float, apart: Counts | None = None) -> None:
    cells = [needed.readings, done.readings, needed.pictures, done.pictures, needed.tokens, done.tokens]
    text = "".join(f"{cell:{10 - i % 2}.2f}" for i, cell in enumerate(cells))
    beside = f"   {apart.readings:14.2f}{apart.tokens:8.1f}" if apart else ""
    print(f"{name:10}{text}{(done.tokens - needed.tokens) / length:9.2f}{beside}")


def total(counts: Sequence[Counts]) -> Counts:
    return sum(counts, Counts())


def engine_places(reader: Reader) -> int:
    """Places that a picture takes: the token that comes most often in a prompt."""
    return Counter(next(iter(reader.known.values()))).most_common(1)[0][1]


def claim_of(exam: Exam) -> Claim:
    return Claim(exam.image_path, exam.question, exam.options, exam.answer, exam.rationale)


def real_tokens(judges: Sequence[Any], claims: Sequence[Claim]) -> Iterator[int]:
    """Of each claim in the words of each member."""
    for judge in judges:
        for claim in claims:
            yield int(judge._reader.inputs([claim])["attention_mask"].sum())


def made_reward(options: argparse.Namespace, folder: Path) -> Path:
    """Members that were never trained: what they cost does not depend on what they learned."""
    (architecture,) = json.loads((options.model / "config.json").read_text())["architectures"]
    card = {"form": "yes-no", "prompt_name": JUDGE, "prompt": load_prompt(JUDGE), "architecture": architecture}
    for fold, n in product(range(FOLDS), range(options.members)):
        member = folder / place(fold, n)
        shutil.copytree(options.model, member)
        (member / RECORD).write_text(json.dumps({"method": "reward", "judge": card}))
    return folder


def hospital(options: argparse.Namespace, out: Path, workspace: Workspace) -> list[str]:
    command = ["-m", "medgr2_phantoms.hospital", "--out", str(out), "--truth", str(out.with_suffix(".truth"))]
    numbers = {"images": options.images, "seed-qa": 20, "heldout": 10, "seed": options.seed}
    for name, number in numbers.items():
        command += [f"--{name}", str(number)]
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    rows: dict[str, dict[str, Any]] = {}
    with (out / "labels.csv").open(newline="") as table:
        for told in csv.DictReader(table):
            path = next(p for p in (out / told["file"], out / "images" / told["file"]) if p.is_file())
            image_id = workspace.images.put(path.read_bytes())
            rows[image_id] = {
                "image_id": image_id, "split": "train", "report": told["report"], "modality": told["modality"]
            }  # fmt: skip
    workspace.lake.append_new("images", list(rows.values()), key="image_id")
    return sorted(rows)


if __name__ == "__main__":
    main()
