"""`medgr2 loop`: the closed loop, on the embedded world by default."""

from __future__ import annotations

import json
import time
from typing import get_args

import click

from medgr2.flows.forms import budget_of, fill, training_of
from medgr2.flows.output import emit
from medgr2.flows.prefect_home import prepare
from medgr2.infra.settings import load_settings
from medgr2.schemas.approvals import Approver
from medgr2.schemas.parameters import EMBEDDED, LoopParameters
from medgr2.schemas.presets import PresetName
from medgr2.schemas.stopping import LoopBudget

PRESETS = get_args(PresetName)
APPROVERS = get_args(Approver)
NEXT = (
    'medgr2 query "select verdict, count(*) n from items_scored group by 1"',
    "medgr2 models",
    "medgr2 explain {item}",
)


@click.command(name="loop")
@click.option("--cycles", default=1, show_default=True, help="Turns of the loop.")
@click.option("--seed", default=7, show_default=True, help="Seed of the training and of the embedded world.")
@click.option("--images", default=300, show_default=True, help="Images in the embedded world.")
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="cpu-tiny",
    show_default=True,
    help="Recipe of training: cpu-tiny for the embedded model; paper, med-r1 and default for a base of your own on a "
    "GPU.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting that is to be other than the preset's, as often as needed: --set sft_steps=200",
)
@click.option(
    "--patience", default=2, show_default=True, help="Cycles in a row without a clear gain that end the loop; 0: none."
)
@click.option("--regardless", is_flag=True, help="Live all cycles, whatever gain and audited precision say.")
@click.option("--budget", default="", help="Of all cycles: calls=1000,tokens=2000000,money=5,hours=8")
@click.option(
    "--approve",
    type=click.Choice(APPROVERS),
    default="gate",
    show_default=True,
    help="Who promotes a policy that passed its exam; a person is asked here, or by a form of the Prefect server.",
)
@click.option("--json", "as_json", is_flag=True, help="The reports as one JSON array.")
def command(
    cycles: int,
    seed: int,
    images: int,
    preset: str,
    changes: tuple[str, ...],
    patience: int,
    regardless: bool,
    budget: str,
    approve: str,
    as_json: bool,
) -> None:
    """Refresh, train (SFT, then GRPO), evaluate, promote, regenerate. Killed, the same command goes on."""
    settings = load_settings()
    parameters = fill(
        LoopParameters,
        {
            "cycles": cycles,
            "seed": seed,
            "refresh": {
                "dataset": "loop",
                "source": EMBEDDED,
                "world": {"seed": seed, "images": images},
                "score": {"reviewer": "phantoms"},
            },
            "stop": {
                "patience": 0 if regardless else patience,
                "precision": not regardless,
                "budget": budget_of(budget, LoopBudget, "loop"),
            },
            "approval": approve,
            "train": training_of(preset, changes),
        },
        "loop",
    )
    from medgr2.tasks.preset_check import refuse_unmet

    refuse_unmet(settings, parameters.train)
    started = time.monotonic()
    prepare(settings)
    from medgr2.flows.cycle_records import summary
    from medgr2.flows.loop import closed_loop

    reports = closed_loop(parameters)
    if as_json:
        click.echo(json.dumps([report.model_dump(mode="json") for report in reports]))
        return
    click.echo()
    emit(summary(reports), as_json=False)
    for report in reports:
        probe = report.night.publish.probe
        if probe is not None and report.night.publish.refused:
            click.echo(f"cycle {report.cycle}: " + "\n".join(probe.lines()))
        if report.reward:
            click.echo(f"cycle {report.cycle}: {report.reward.line()}")
        if report.exam:
            click.echo(f"cycle {report.cycle}: {report.exam.line()}")
        for note in report.notes:
            click.echo(f"cycle {report.cycle}: {note}")
        if report.stop:
            click.echo(f"the loop ended after cycle {report.stop.after}: {report.stop.reason}")
    click.echo(f"\n{time.monotonic() - started:.0f} s, everything is in {settings.storage.root}. Next:")
    item = _an_item(settings.storage)
    for line in NEXT:
        click.echo("  " + line.format(item=item))


def _an_item(storage: object) -> str:
    from medgr2.infra.query import query
    from medgr2.infra.settings import StorageSettings

    assert isinstance(storage, StorageSettings)  # noqa: S101
    rows = query(storage, "select item_id from members where dataset = 'loop' order by 1 limit 1").to_pylist()
    return str(rows[0]["item_id"][:12]) if rows else "ITEM_ID"
