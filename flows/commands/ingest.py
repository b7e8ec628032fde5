"""`medgr2 ingest FOLDER`: images, labels and human questions in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from medgr2.flows.output import emit_one
from medgr2.infra.settings import load_settings


@click.command(name="ingest")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--labels", type=click.Path(path_type=Path), help="CSV of labels; default FOLDER/labels.csv.")
@click.option("--seed", type=click.Path(path_type=Path), help="JSONL of questions people wrote about training images.")
@click.option("--heldout", type=click.Path(path_type=Path), help="JSONL of questions of the held-out set.")
@click.option("--run", default="", help="Name of this run; default ingest/<date>.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    folder: Path, labels: Path | None, seed: Path | None, heldout: Path | None, run: str, as_json: bool
) -> None:
    """Take in the images of FOLDER that have a label, and questions that people wrote about them.

    The labels' columns are file and modality, and if you have them patient_id, report, anatomy, split, source,
    licence; others are kept as labels. File names and patient ids are not stored. Every file is accounted for;
    the same command again costs only what is new.
    """
    from medgr2.flows.intake import take_in
    from medgr2.infra.workspace import open_workspace

    name = run or f"ingest/{datetime.now(UTC).date().isoformat()}"
    report = take_in(open_workspace(load_settings()), folder, labels=labels, seed=seed, heldout=heldout, run=name)
    emit_one(report.model_dump(), as_json=as_json)
