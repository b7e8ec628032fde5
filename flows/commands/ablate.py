"""`medgr2 ablate`: what each part is worth, measured on embedded worlds whose truth is known."""

from __future__ import annotations

import os
import platform
import sys
import time
from statistics import fmean
from typing import Any

import click

from medgr2.flows.output import emit, emit_one
from medgr2.infra.settings import load_settings
from medgr2.schemas.parameters import TrainParameters

FIRST_SEED = 101
"""Worlds that nothing was chosen on."""


@click.group(name="ablate")
def command() -> None:
    """What each part of the loop is worth, on embedded worlds whose truth is known."""


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
        "command": " ".join(["medgr2", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(sum(os.times()[:4]) - clock, 1),
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
