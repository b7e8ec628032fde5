"""What our training costs beside a bare TRL script: `python benchmarks/training_overhead.py [--pairs N] [--work DIR]`.

One night of the embedded world is lived once; then its policy is trained over and over, each time by a process of its
own and by turns: as the loop does it (`tasks.improve.train_policy`: plan, journal, checks of model and rows,
checkpoints and their store, the registry), from a fresh copy of the same root, and by `benchmarks/bare_trl.py`, from
the same start on the same rows in the same order. CPU seconds are user and system of a process and of those it waited
for, its imports included. All is as in the preset cpu-tiny but for the steps: 600 of SFT, 60 of GRPO.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

METHODS = ("sft", "grpo")
SEED, IMAGES, SFT_STEPS, GRPO_STEPS = 301, 160, 600, 60
HERE = Path(__file__).resolve()
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
    "TRANSFORMERS_VERBOSITY": "error",
}


def parameters(method: str) -> Any:
    from medgr2.schemas.parameters import TrainParameters

    if method == "sft":
        return TrainParameters(sft_steps=SFT_STEPS, grpo_steps=0)
    return TrainParameters(sft_steps=0, grpo_steps=GRPO_STEPS)


def opened(root: Path) -> Any:
    from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
    from medgr2.infra.workspace import open_workspace

    # Without Ray: what its workers spend, nobody could add up.
    return open_workspace(Settings(storage=StorageSettings(root=str(root)), compute=ComputeSettings(mode="inline")))


def prepare(work: Path) -> None:
    """A night with its version, and what each training of it sees, in files that need no medgr2 to be read."""
    from medgr2.flows import ablate, embedded
    from medgr2.flows.intake import take_in
    from medgr2.infra import versions
    from medgr2.models.chat_check import end_tokens, open_processor
    from medgr2.models.model_ref import materialise
    from medgr2.models.registry import Registry
    from medgr2.models.training import plain_text, schedule
    from medgr2.schemas import parameters as asked
    from medgr2.schemas.intake import IntakeParameters
    from medgr2.schemas.vocabulary import Role
    from medgr2.tasks import ablate_loop
    from medgr2.tasks.exercises import examples, rehearsals
    from medgr2.tasks.lessons import judgements, published_at, read_lessons, source_of
    from medgr2.tasks.training_plans import lessons_of, practice_of

    workspace = opened(work / "root")
    world = embedded.embedded_world(workspace.settings, SEED, IMAGES)
    embedded.build(world)
    keep = IntakeParameters(reports="keep")  # drawn by a machine: nobody is in them
    take_in(
        workspace, str(world.hospital), parameters=keep, run="intake", seed=world.hospital / "seed_qa.jsonl",
        heldout=world.hospital / "heldout.jsonl", announce=quiet,
    )  # fmt: skip
    lived = ablate_loop.World(workspace, SEED, lambda requests: embedded.ask_reviewer(world, requests), quiet)
    loop = ablate.loop_parameters(SEED, IMAGES, 100, 0.7, asked.TrainParameters())
    night, made, _ = ablate_loop.live(lived, ablate_loop.Arms(loop, images=(IMAGES,)), 1)
    (work / "night.json").write_text(json.dumps([night.model_dump(mode="json"), made.model_dump(mode="json")]))
    start = Registry(workspace.store, workspace.lake).model(night.start)["artifact"]
    folder = materialise(start, workspace.settings).folder
    shutil.copytree(folder, work / "start")
    sources = [source_of(made), source_of(versions.resolve(workspace.lake, asked.SEED))]
    lessons = read_lessons(workspace.lake, sources)
    judged = judgements(workspace.lake, [one.item_id for one in lessons], published_at(workspace.lake, sources))
    plain = plain_text(folder)
    for method in METHODS:
        how = parameters(method).settings
        plan = lessons_of(how, SEED) if method == "sft" else practice_of(how, SEED)
        assert plan is not None
        template = template_of(plan)
        rows: list[dict[str, Any]]
        if plan.sft is not None:
            learned = examples(
                lessons, workspace.images, role=Role.POLICY, template=template, human_share=plan.human_share,
                evened=plan.weighting == "labels",
            )  # fmt: skip
            rows = [{"image": str(e.image), "user": plain(e.user), "assistant": plain(e.assistant)} for e in learned]
            order = schedule([e.weight for e in learned], plan.sft.steps * plan.sft.batch, SEED)
            settings = plan.sft.model_dump(mode="json")
        else:
            assert plan.grpo is not None
            tried = rehearsals(lessons, judged, workspace.images, template, plan.band)
            rows = [{"image": str(p.image), "user": plain(p.user), "key": p.key, "quality": p.quality} for p in tried]
            # TRL's sampler of GRPO repeats each prompt itself.
            order = schedule([1.0] * len(tried), plan.grpo.steps * plan.grpo.prompts, SEED)
            settings = plan.grpo.model_dump(mode="json")
        ends = sorted(end_tokens(open_processor(folder), folder))
        told = {"rows": rows, "order": order, "settings": settings, "ends": ends}
        (work / f"{method}.json").write_text(json.dumps(told))


def template_of(plan: Any) -> str:
    from medgr2.models import prompts

    return prompts.load_prompt(plan.answering.prompt)


def quiet(_: Any) -> None:
    pass


def ours(method: str, root: Path, work: Path) -> None:
    """One training as the loop does it, in this process; what it took is printed."""
    spent: list[float] = []
    from medgr2.models.model_ref import materialise
    from medgr2.models.registry import Registry
    from medgr2.schemas.reports import DatasetVersion
    from medgr2.tasks import improve
    from medgr2.tasks.night import Night

    warnings.simplefilter("ignore")
    night, made = json.loads((work / "night.json").read_text())
    workspace = opened(root)
    clocked(spent)
    taught = improve.train_policy(
        workspace, Night.model_validate(night), DatasetVersion.model_validate(made), parameters(method), SEED, quiet
    )
    if taught.notes:
        raise SystemExit("; ".join(taught.notes))
    row = Registry(workspace.store, workspace.lake).model(taught.model_id)
    learned = row["metrics"]["training"]
    told = {
        "steps_seconds": spent[0],
        "optimizer_steps": learned["settings"]["steps"],
        "end": learned["last_loss" if method == "sft" else "last_reward"],
        "model": str(materialise(row["artifact"], workspace.settings).folder),
    }
    print(json.dumps(told))


def clocked(spent: list[float]) -> None:
    """Hears how long the trainer's own part takes, as the bare script tells of itself."""
    from transformers import Trainer

    plain = Trainer.train

    def train(self: Any, *args: Any, **options: Any) -> Any:
        before = time.process_time()
        result = plain(self, *args, **options)
        spent.append(time.process_time() - before)
        return result

    Trainer.train = train


def measured(command: list[str]) -> dict[str, Any]:
    """CPU seconds of a process of its own, and what it says on its last line."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as wrong:
        child = subprocess.Popen([sys.executable, *command], stdout=said, stderr=wrong, env=os.environ | ENVIRONMENT)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        wrong.seek(0)
        if child.returncode:
            raise SystemExit(f"{command[1:3]} ended with {child.returncode}:\n{wrong.read()[-2000:]}")
        return {**json.loads(said.read().strip().splitlines()[-1]), "cpu_seconds": used.ru_utime + used.ru_stime}


def one(arm: str, method: str, work: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=work, prefix="run-") as name:
        here = Path(name)
        if arm == "ours":
            shutil.copytree(work / "root", here / "root")
            told = measured([str(HERE), "--work", str(work), "--arm", method, "--root", str(here / "root")])
        else:
            bare = str(HERE.with_name("bare_trl.py"))
            told = measured([bare, method, str(work / "start"), str(work / f"{method}.json"), str(here / "out")])
        return told | {"weights": weights(Path(told["model"]))}


def weights(folder: Path) -> Any:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def table(method: str, found: dict[str, list[dict[str, Any]]]) -> None:
    import numpy as np

    cpu = {arm: [run["cpu_seconds"] for run in runs] for arm, runs in found.items()}
    steps = {arm: [run["steps_seconds"] for run in runs] for arm, runs in found.items()}
    count = found["ours"][0]["optimizer_steps"]
    print(f"{method}, {count} steps, {len(cpu['ours'])} pairs: CPU seconds, median (least to most)")
    for name, seconds in (("whole process", cpu), ("steps alone", steps)):
        ratios = [a / b for a, b in zip(seconds["ours"], seconds["bare"], strict=True)]
        arms = "; ".join(
            f"{arm} {median(values):.2f} ({min(values):.2f} to {max(values):.2f})" for arm, values in seconds.items()
        )
        print(
            f"  {name}: {arms}; ours / bare {median(seconds['ours']) / median(seconds['bare']):.3f}, "
            f"by pairs {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )
    a, b = found["ours"][-1], found["bare"][-1]
    apart = max(float(np.abs(a["weights"][name] - b["weights"][name]).max()) for name in b["weights"])
    what = "mean loss of the last 10 steps" if method == "sft" else "mean reward of the last 5 steps"
    print(f"  {what}: ours {a['end']:.4f}, bare {b['end']:.4f}; weights differ by {apart:.2g} at most")
    for arm, runs in found.items():
        if any(not np.array_equal(runs[0]["weights"][n], run["weights"][n]) for run in runs for n in run["weights"]):
            print(f"  {arm}: its runs did not end in equal weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--method", choices=METHODS, action="append", help="Both, where none is named.")
    parser.add_argument("--work", type=Path, help="Kept, with the night: the next run need not live it again.")
    parser.add_argument("--arm", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.arm:
        ours(chosen.arm, chosen.root, chosen.work)
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {version('torch')}, transformers {version('transformers')}, trl {version('trl')}, one thread; "
        f"command: {' '.join(sys.argv)}"
    )
    with tempfile.TemporaryDirectory() as name:
        work = (chosen.work or Path(name)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if not (work / "grpo.json").is_file():
            os.environ.update(ENVIRONMENT)
            prepare(work)
        for method in chosen.method or METHODS:
            told = json.loads((work / f"{method}.json").read_text())
            print(f"{method}: {len(told['rows'])} rows, {len(told['order'])} visits", flush=True)
            found: dict[str, list[dict[str, Any]]] = {"ours": [], "bare": []}
            for turn in range(chosen.pairs + 1):
                for arm, runs in found.items():
                    run = one(arm, method, work)
                    what = f"pair {turn}" if turn else "warm-up, not counted"
                    print(
                        f"  {what}, {arm}: {run['cpu_seconds']:.2f} CPU s, {run['steps_seconds']:.2f} of them in steps",
                        flush=True,
                    )
                    if turn:
                        runs.append(run)
            table(method, found)


if __name__ == "__main__":
    main()
