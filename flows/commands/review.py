"""`medgr2 review`: items out to people, their verdicts back in. Without verdicts nothing can be accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from medgr2.infra.settings import load_settings
from medgr2.schemas.errors import DataError, NotFoundError, UsageError

JUDGED = """
    select item_id, image_id, question_type, question, options, answer, rationale, lp, p_valid, tau
    from items_scored where origin = 'generated' and lp is not null"""


@click.group(name="review", help="Put drafts before people and take their verdicts in.")
def command() -> None: ...


@command.command(name="sample")
@click.option("--n", default=100, show_default=True, type=click.IntRange(min=1), help="How many items.")
@click.option("--seed", default=0, show_default=True, help="Of the random part of the sample.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="JSONL to fill in: reviewer, valid, reason."
)
def sample(n: int, seed: int, out: Path) -> None:
    """Write the items most worth a look: near tau, some accepted at random, the top; at first, over all of lp."""
    from medgr2.infra.query import query
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.review import sample_for_review

    if out.exists():
        raise UsageError(f"{out} exists already", next_command="give another --out: verdicts may be in it")
    settings = load_settings()
    workspace = open_workspace(settings)
    rows = query(settings.storage, JUDGED).to_pylist()
    reviewed = set(workspace.lake.read("reviews", columns=["item_id"])["item_id"].to_pylist())
    chosen = sample_for_review(rows, n, seed=seed, reviewed=reviewed)
    if not chosen:
        raise NotFoundError("no scored draft is left to review", next_command="medgr2 refresh  makes some")
    by_id = {row["item_id"]: row for row in rows}
    with out.open("w", encoding="utf-8") as f:
        for item_id in chosen:
            f.write(json.dumps(_sheet(by_id[item_id], workspace.images.path(by_id[item_id]["image_id"]))) + "\n")
    click.echo(f"{len(chosen)} items in {out}; fill in reviewer, valid (true or false) and reason, then:")
    click.echo(f"  medgr2 review import {out}")


def _sheet(row: dict[str, Any], image: Path) -> dict[str, Any]:
    told = ("item_id", "question_type", "question", "options", "answer", "rationale")
    return {**{name: row[name] for name in told}, "image": str(image), "reviewer": "", "valid": None, "reason": ""}


@command.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--run", default="", help="Name of the review, kept with the verdicts.")
def import_file(file: Path, run: str) -> None:
    """Take verdicts in, all or none. The next refresh calibrates on them."""
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.review import import_verdicts

    if not file.is_file():
        raise NotFoundError("no such file", where=str(file), next_command="medgr2 review sample --out FILE.jsonl")
    verdicts = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            verdicts.append({name: row[name] for name in ("item_id", "reviewer", "valid", "reason") if name in row})
        except (json.JSONDecodeError, TypeError):
            raise DataError("a line is not a JSON object", where=f"{file}, line {number}", kept="no verdict") from None
    done = import_verdicts(open_workspace(load_settings()).lake, verdicts, run=run)
    click.echo(f"{done.added} verdicts taken in, {done.known} known before; next: medgr2 refresh")
