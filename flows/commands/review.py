"""`medgr2 review`: items out to people, their verdicts back in. Without verdicts nothing can be accepted."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgr2.flows.output import emit_one
from medgr2.flows.reading import readable_storage
from medgr2.infra.settings import load_settings
from medgr2.schemas.errors import DataError, NotFoundError, UsageError

if TYPE_CHECKING:
    from medgr2.infra.workspace import Workspace

JUDGED = """
    select item_id, run, lp, p_valid, tau, verdict from items_scored
    where origin = 'generated' and lp is not null and item_id not in (select item_id from reviews)"""


@click.group(name="review", help="Put drafts before people and take their verdicts in.")
def command() -> None: ...


@command.command(name="sample")
@click.option("--n", default=200, show_default=True, type=click.IntRange(min=1), help="How many items.")
@click.option("--seed", default=0, show_default=True, help="Of the random part of the sample.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Sheet to fill in (verdict, reason, reviewer): .csv for a spreadsheet, or .jsonl.",
)
@click.option("--run", default="", help="Only drafts of this night, as nightly/2026-11-20; else of all.")
def sample(n: int, seed: int, out: Path, run: str) -> None:
    """Write a sheet and its pictures: half near tau, a quarter random accepted, a quarter top; at first, all of lp."""
    from medgr2.infra.query import query
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.review_sample import draw
    from medgr2.tasks.review_sheet import check_ending, exists, row_of, write_sheet

    check_ending(out)
    if out.exists():
        raise exists(out)
    if not out.parent.is_dir():
        raise UsageError("no such folder", where=str(out.parent), next_command="make it, or give another --out")
    readable_storage()
    workspace = open_workspace(load_settings())
    reviewed = set(workspace.lake.read("reviews", columns=["item_id"])["item_id"].to_pylist())
    judged = query(workspace.settings.storage, JUDGED).to_pylist()
    drawn = draw((row for row in judged if run in ("", row["run"])), n, seed=seed, reviewed=reviewed)
    if not drawn.asked:
        of_run = f" of {run}" if run else ""
        raise NotFoundError(f"no scored draft{of_run} is left to review", next_command="medgr2 refresh  makes some")
    ids = [one.item_id for one in drawn.asked]
    item_of = {row["item_id"]: row for row in workspace.lake.read("items", where={"item_id": ids}).to_pylist()}
    folder = out.with_name(f"{out.stem}-pictures")
    pictures = _pictures(workspace, (row["image_id"] for row in item_of.values()), folder)
    rows = [row_of(one, item_of[one.item_id], pictures[item_of[one.item_id]["image_id"]]) for one in drawn.asked]
    write_sheet(out, rows)
    told = ", ".join(f"{name} {number}" for name, number in drawn.strata.items())
    click.echo(f"{len(rows)} items in {out} ({told}), their pictures in {folder}")
    for note in drawn.notes:
        click.echo(f"note: {note}")
    click.echo("fill in verdict (valid or invalid), reason and reviewer; leave open what you did not judge; then:")
    click.echo(f"  medgr2 review import {out}")


@command.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--run", default="", help="Name of the review, kept with the verdicts.")
@click.option("--corrects", is_flag=True, help="What a reviewer says now takes the place of what was said before.")
def import_file(file: Path, run: str, corrects: bool) -> None:
    """Take verdicts in, all or none, and say what they come to."""
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.review import import_verdicts
    from medgr2.tasks.review_return import read_sheet
    from medgr2.tasks.review_status import review_status

    sheet = read_sheet(file)
    if not sheet.rows and not sheet.problems:
        raise DataError(
            f"no row is judged yet: {sheet.open} without a verdict",
            where=str(file),
            kept="all earlier verdicts",
            next_command="fill in verdict (valid or invalid) and reviewer, save, then give the same command again",
        )
    readable_storage()
    workspace = open_workspace(load_settings())
    done = import_verdicts(
        workspace.lake,
        [row.said for row in sheet.rows],
        run=run,
        lines=[row.line for row in sheet.rows],
        problems=sheet.problems,
        where=str(file),
        corrects=corrects,
    )
    corrections = f" ({done.corrections} of them corrections)" if done.corrections else ""
    click.echo(
        f"{done.added} verdicts taken in{corrections}, {done.known} known before, {sheet.open} rows not judged yet"
    )
    for note in sheet.notes:
        click.echo(f"note: {note}")
    stands = review_status(workspace)
    _say(stands.lines())
    dataset, _, night = (stands.run or "").partition("/")
    click.echo(f"next: medgr2 refresh{f' --dataset {dataset} --night {night}' if night else ''}")
    click.echo("  with the other options of that night: judges it again by all verdicts, and buys no draft again")


@command.command(name="status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(as_json: bool) -> None:
    """Verdicts, reviewers and their agreement, precision of the accepted, and the calibration they allow."""
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.review_status import review_status

    readable_storage()
    found = review_status(open_workspace(load_settings()))
    if as_json:
        emit_one(found.model_dump(mode="json"), as_json=True)
    else:
        _say(found.lines())


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _pictures(workspace: Workspace, image_ids: Iterable[str], folder: Path) -> Mapping[str, Path]:
    """Copies under names that a viewer opens, beside the sheet, so that both can be handed on together."""
    folder.mkdir(mode=0o700, exist_ok=True)
    made: dict[str, Path] = {}
    for image_id in sorted(set(image_ids)):
        data = workspace.images.path(image_id).read_bytes()
        path = folder.absolute() / f"{image_id[:16]}{_suffix(data)}"
        path.touch(mode=0o600)
        path.write_bytes(data)
        made[image_id] = path
    return made


def _suffix(data: bytes) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            kind: Any = picture.format
    except UnidentifiedImageError:
        return ""
    return {"JPEG": ".jpg", "TIFF": ".tif"}.get(kind, f".{str(kind).lower()}")
