"""`medgr2 refresh`: one night, as the schedule runs it."""

from __future__ import annotations

import click

from medgr2.flows.forms import budget_of, fill
from medgr2.flows.output import emit_one
from medgr2.flows.prefect_home import prepare
from medgr2.infra.settings import Settings, load_settings
from medgr2.schemas.parameters import STYLES, RefreshParameters


@click.command(name="refresh")
@click.option("--dataset", default="nightly", show_default=True, help="Dataset that gains a version.")
@click.option("--source", default="", help="Folder of new images, or 'embedded'; empty: only what is in already.")
@click.option("--labels", default="", help="CSV of labels of the source.")
@click.option(
    "--night", default="", help="Name of the night; default today (UTC). The same name goes on where it stood."
)
@click.option("--images", type=int, default=None, help="Ask about at most so many images.")
@click.option("--unasked-only", is_flag=True, help="Ask only about images that no earlier night of it asked about.")
@click.option("--style", type=click.Choice(STYLES), default=None, help="How the generator is asked.")
@click.option("--budget", default="", help="What the night may buy in all: calls=1000,tokens=2000000,money=5")
@click.option("--target", type=int, default=None, help="Stop asking once so many items are accepted.")
@click.option("--tau", type=float, default=0.8, show_default=True, help="Smallest p(valid) that is accepted.")
@click.option("--top-k", type=int, default=None, help="Add at most so many items, the best, with no cap by slice.")
@click.option(
    "--balance-keys/--no-balance-keys",
    default=True,
    show_default=True,
    help="Leave out the surplus of labels that are the key more often than chance allows.",
)
@click.option("--reviewer", type=click.Choice(["people", "phantoms"]), default="people", show_default=True)
@click.option("--plan", "only_plan", is_flag=True, help="Say what the night would buy, and buy nothing.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def command(
    dataset: str,
    source: str,
    labels: str,
    night: str,
    images: int | None,
    unasked_only: bool,
    style: str | None,
    budget: str,
    target: int | None,
    tau: float,
    top_k: int | None,
    balance_keys: bool,
    reviewer: str,
    only_plan: bool,
    as_json: bool,
) -> None:
    """One night of data: ingest new, generate, score, select, publish. Killed, the same command completes it."""
    settings = load_settings()
    asked = {
        "images": images, "unasked_only": unasked_only, "style": style, "budget": budget_of(budget), "target": target,
    }  # fmt: skip
    parameters = fill(
        RefreshParameters,
        {
            "dataset": dataset, "source": source, "labels": labels, "night": night,
            "generate": asked, "score": {"reviewer": reviewer},
            "select": {"tau": tau, "top_k": top_k, "balance_keys": balance_keys},
        },
        "refresh",
    )  # fmt: skip
    if only_plan:
        _plan(settings, parameters, as_json=as_json)
        return
    prepare(settings)
    from medgr2.flows.refresh import data_refresh

    report = data_refresh(parameters)
    if as_json:
        emit_one(report.model_dump(), as_json=True)
        return
    click.echo(report.generate.line())
    if report.generate.diversity is not None:
        click.echo(report.generate.diversity.line())
    click.echo(report.appraisal.line())
    click.echo(report.publish.line())
    if report.generate.left:
        click.echo("next: the same command with a larger --budget goes on where it stopped")
    if report.images_waiting:
        click.echo(
            f"{report.images_waiting} images are not asked about by {report.run}, which began without them: "
            "give --night another name for them"
        )
    if report.appraisal.calibration is None:
        click.echo("next: medgr2 review sample --out sheet.jsonl")


def _plan(settings: Settings, parameters: RefreshParameters, *, as_json: bool) -> None:
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.forecast import forecast

    told = forecast(open_workspace(settings), parameters.tonight())
    if as_json:
        emit_one(told.model_dump(), as_json=True)
        return
    for line in told.lines():
        click.echo(line)
