"""`medgr2 loop`: the closed loop, on the embedded world by default."""

from __future__ import annotations

import json
import time

import click

from medgr2.flows.forms import fill
from medgr2.flows.output import emit
from medgr2.flows.prefect_home import prepare
from medgr2.infra.settings import load_settings
from medgr2.schemas.parameters import EMBEDDED, LoopParameters

NEXT = (
    'medgr2 query "select verdict, count(*) n from items_scored group by 1"',
    "medgr2 models",
    "medgr2 explain {item}",
)


@click.command(name="loop")
@click.option("--cycles", default=1, show_default=True, help="Turns of the loop.")
@click.option("--seed", default=7, show_default=True, help="Seed of the training and of the embedded world.")
@click.option("--images", default=300, show_default=True, help="Images in the embedded world.")
@click.option("--json", "as_json", is_flag=True, help="The reports as one JSON array.")
def command(cycles: int, seed: int, images: int, as_json: bool) -> None:
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
        },
        "loop",
    )
    started = time.monotonic()
    prepare(settings)
    from medgr2.flows.loop import closed_loop, summary

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
            click.echo(f"cycle {report.cycle}: {report.exam.decision}: {'; '.join(report.exam.reasons)}")
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
