"""`medgr2 models`: what is registered, from what it came, and who is champion."""

from __future__ import annotations

from typing import Any

import click

from medgr2.flows.output import emit, emit_one
from medgr2.infra.settings import load_settings
from medgr2.schemas.vocabulary import Role


@click.group(name="models", invoke_without_command=True)
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), default=None, help="Models of this role only."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array: each model with its whole lineage.")
@click.pass_context
def command(context: click.Context, role: str | None, as_json: bool) -> None:
    """Registered models; a star marks the champion of a role. `show` tells where one came from."""
    if context.invoked_subcommand is not None:
        return
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.model_story import heldout, stories

    workspace = open_workspace(load_settings())
    found = [story for story in stories(workspace) if role in (None, story["role"])]
    whole = [story | {"heldout": heldout(story)} for story in found]
    emit(whole if as_json else [_row(one) for one in whole], as_json=as_json, empty="no model yet: medgr2 loop")
    if not as_json:
        _tell_looks(workspace)


@command.command(name="show")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(model: str, as_json: bool) -> None:
    """The lineage of MODEL, a name like policy@3 or the beginning of an id: parents, data, exams and moves."""
    from medgr2.infra.workspace import open_workspace
    from medgr2.models.registry import Registry
    from medgr2.tasks.model_story import stories

    workspace = open_workspace(load_settings())
    wanted = Registry(workspace.store, workspace.lake).find(model)["model_id"]
    (story,) = (one for one in stories(workspace) if one["model_id"] == wanted)
    emit_one(story, as_json=as_json)


def _row(story: dict[str, Any]) -> dict[str, Any]:
    return {
        "champion": "*" if story["champion"] else "", "name": story["name"], "method": story["method"],
        "model": story["model_id"][:12], "parent": story["ancestors"][0] if story["ancestors"] else None,
        "data": f"{story['dataset']}@{story['dataset_version']}" if story["dataset"] else None,
        "heldout": story["heldout"], "run": story["run"],
    }  # fmt: skip


def _tell_looks(workspace: Any) -> None:
    """What is left of alpha on the held-out version that was looked at last."""
    from medgr2.models.alpha_ledger import level, spent
    from medgr2.tasks.promotion import ledger

    found = ledger(workspace)
    if looks := found.looks(Role.POLICY):
        heldout, alpha = looks[-1].heldout, looks[-1].alpha
        n = len(found.counting(Role.POLICY, heldout))
        click.echo(
            f"\n{heldout.dataset}@{heldout.version}: {n} {'look has' if n == 1 else 'looks have'} spent "
            f"{spent(alpha, n):.3g} of {alpha:g}; the next candidate is better at p <= {level(alpha, n + 1):.3g}"
        )
