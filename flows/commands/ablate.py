"""`medgr2 ablate`: what each part is worth, measured on embedded worlds whose truth is known."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from medgr2.flows.forms import fill, training_of
from medgr2.flows.output import emit, emit_one
from medgr2.infra.settings import load_settings
from medgr2.schemas.errors import UsageError
from medgr2.schemas.parameters import TrainParameters

IMAGES = "300,100,100"
SHORT = {"sft_steps": "200", "sft_learning_rate": "1.2e-3", "generator_steps": "150"}
"""Nights and trainings by which four worlds cost less than half an hour of CPU, after trials on worlds 11 and 12."""
FIRST_SEED = 101
"""Worlds that nothing was chosen on."""


@click.group(name="ablate")
def command() -> None:
    """What each part of the loop is worth, on embedded worlds whose truth is known."""


@command.command(name="loop")
@click.option("--seeds", default=4, show_default=True, type=click.IntRange(1, 100), help="Worlds, each with its loop.")
@click.option("--first-seed", default=FIRST_SEED, show_default=True, help="Seed of the first world.")
@click.option("--images", default=IMAGES, show_default=True, help="What each night asks about: 300,100,100 is three.")
@click.option("--heldout", default=3000, show_default=True, type=click.IntRange(100), help="Items of the exam.")
@click.option("--audits", default=200, show_default=True, type=click.IntRange(20, 2000), help="Audits of a night.")
@click.option("--tau", default=0.7, show_default=True, help="Smallest p(valid) that is accepted.")
@click.option("--grpo-steps", default=25, show_default=True, type=click.IntRange(1), help="Of the arm with GRPO.")
@click.option(
    "--judge-steps",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Of each reward member between cycles; 0: no reward is trained.",
)
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="A setting of training to be other.")
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Seeds at a time. More are done sooner, and cost more CPU time where two cores are threads of one.",
)
@click.option("--plot", type=click.Path(dir_okay=False, writable=True), help="Draw the table into this SVG file.")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
def loop(
    seeds: int,
    first_seed: int,
    images: str,
    heldout: int,
    audits: int,
    tau: float,
    grpo_steps: int,
    judge_steps: int,
    changes: tuple[str, ...],
    jobs: int,
    plot: str | None,
    as_json: bool,
) -> None:
    """Every arm of the loop on the same exam: what the seed, the filter, GRPO and further cycles are worth."""
    from medgr2.flows.ablate import loop_of_seeds, loop_parameters
    from medgr2.models.loop_claims import CONTRASTS, claims
    from medgr2.models.loop_plot import drawn
    from medgr2.models.loop_table import Table
    from medgr2.tasks.ablate_loop import Arms

    began = time.monotonic()
    nights = _nights(images)
    steps = {"grpo_steps": str(grpo_steps), "judge_steps": str(judge_steps)}
    train = fill(TrainParameters, SHORT | steps | training_of("cpu-tiny", changes), "ablate loop")
    plans = {
        seed: Arms(loop_parameters(seed, sum(nights), audits, tau, train), nights)
        for seed in range(first_seed, first_seed + seeds)
    }
    done = loop_of_seeds(load_settings(), plans, heldout, min(jobs, seeds))
    table = Table([world.sat for world in done])
    arms = table.arms()
    names = {arm.name for arm in arms}
    contrasts = [table.contrast(*pair) for pair in CONTRASTS if names.issuperset(pair)]
    document: dict[str, Any] = {
        **_how(began, sum(world.cpu_seconds for world in done)),
        "seeds": list(plans),
        "tries": [world.tries for world in done],
        "images": nights,
        "heldout": heldout,
        "audits": audits,
        "tau": tau,
        "settings": train.settings.model_dump(mode="json"),
        "arms": [arm.model_dump() for arm in arms],
        "contrasts": [contrast.model_dump() for contrast in contrasts],
        "claims": [claim.model_dump() for claim in claims(contrasts)],
    }
    if plot:
        Path(plot).write_text(drawn(arms, contrasts, document["command"]), encoding="utf-8")
    if as_json:
        emit_one(document, as_json=True)
        return
    emit_one({name: document[name] for name in ("command", "machine", "seconds", "cpu_seconds")}, as_json=False)
    click.echo()
    emit([arm.model_dump(exclude={"greedy_by_seed", "avg_by_seed", "seeds"}) for arm in arms], as_json=False)
    click.echo()
    emit([contrast.row() for contrast in contrasts], as_json=False)
    click.echo()
    emit(document["claims"], as_json=False)


def _nights(images: str) -> tuple[int, ...]:
    try:
        nights = tuple(int(word) for word in images.split(","))
    except ValueError:
        nights = ()
    if not nights or min(nights) < 20:
        raise UsageError(
            f"--images: {images!r} is no list of numbers of pictures, each 20 or more",
            next_command=f"medgr2 ablate loop --images {IMAGES}",
        )
    return nights


def _how(began: float, cpu_seconds: float) -> dict[str, Any]:
    return {
        "command": " ".join(["medgr2", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(cpu_seconds, 1),
    }


@command.command(name="reward")
@click.option("--seeds", default=4, show_default=True, type=click.IntRange(1, 100), help="Worlds, each with a night.")
@click.option("--first-seed", default=FIRST_SEED, show_default=True, help="Seed of the first world.")
@click.option("--images", default=400, show_default=True, type=click.IntRange(20), help="Training images of a world.")
@click.option("--audits", default=200, show_default=True, type=click.IntRange(20, 2000), help="Audits of a night.")
@click.option(
    "--judge-steps",
    default=TrainParameters().settings.judge_steps,
    show_default=True,
    type=click.IntRange(1),
    help="Of each reward member.",
)
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
def reward(seeds: int, first_seed: int, images: int, audits: int, judge_steps: int, as_json: bool) -> None:
    """Signals alone, together, and each left out: AUROC, calibration and precision on items nobody audited."""
    from medgr2.flows.ablate import mean_arms, reward_of_seed

    began, clock = time.monotonic(), sum(os.times()[:4])
    settings = load_settings()
    results = [reward_of_seed(settings, first_seed + n, images, audits, judge_steps) for n in range(seeds)]
    table = mean_arms(results)
    document: dict[str, Any] = {
        **_how(began, sum(os.times()[:4]) - clock),
        "mean": {
            "auroc": fmean(result.auroc for result in results),
            "ece": fmean(result.ece for result in results),
            "valid": fmean(result.valid for result in results),
            "precision": _mean([result.precision for result in results]),
            "kept": fmean(result.kept for result in results),
            "blind": fmean(result.blind for result in results),
            "chance": fmean(result.chance for result in results),
            "canaries_rejected": _mean([result.canaries_rejected for result in results]),
            "past_gates_rejected": _mean([result.past_gates_rejected for result in results]),
        },
        "arms": [arm.model_dump() for arm in table],
        "seeds": [result.model_dump() for result in results],
    }
    if as_json:
        emit_one(document, as_json=True)
        return
    emit_one({name: document[name] for name in ("command", "machine", "seconds", "cpu_seconds", "mean")}, as_json=False)
    click.echo()
    emit([result.model_dump(exclude={"arms", "batches", "trial"}) for result in results], as_json=False)
    click.echo()
    emit(document["arms"], as_json=False)
    click.echo()
    for result in results:
        click.echo(f"seed {result.seed}: {result.trial.line()}")
    click.echo()
    emit([batch.model_dump() for result in results for batch in result.batches], as_json=False)


def _mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None
