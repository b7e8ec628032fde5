"""`medgr2 ingest SOURCE`: images, labels and human questions in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from medgr2.flows.output import emit, emit_one
from medgr2.infra.settings import load_settings


@click.command(name="ingest")
@click.argument("source")
@click.option("--labels", default="", help="CSV, Parquet or JSONL of labels; default labels.csv in SOURCE, if there.")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="Which column is which: diagnosis=Dx.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="A further column that becomes a label.")
@click.option("--layout", default="", help="Layout of a public benchmark, with its questions: omnimedvqa, ... or auto.")
@click.option("--reports", type=click.Choice(["scrub", "drop", "keep"]), default="scrub", show_default=True)
@click.option("--burned-in", type=click.Choice(["mask", "quarantine", "off"]), default="mask", show_default=True)
@click.option(
    "--burned-in-everywhere", is_flag=True, help="Look for burned-in text in every picture, not in DICOM only."
)
@click.option(
    "--frames", type=click.IntRange(1), default=3, show_default=True, help="Frames of a film, slices of a volume."
)
@click.option("--seed", type=click.Path(path_type=Path), help="JSONL of questions people wrote about training images.")
@click.option("--heldout", type=click.Path(path_type=Path), help="JSONL of questions of the held-out set.")
@click.option("--reread", is_flag=True, help="Read every file again, whatever its times say.")
@click.option(
    "--phi-report", is_flag=True, help="List what identified somebody, by file, kind and place; never the value."
)
@click.option("--listing", type=click.Path(path_type=Path), help="Write a private CSV: file, verdict, reason, images.")
@click.option("--run", default="", help="Name of this run; default ingest/<date>.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    source: str,
    labels: str,
    seed: Path | None,
    heldout: Path | None,
    reread: bool,
    phi_report: bool,
    listing: Path | None,
    run: str,
    as_json: bool,
    **asked: Any,
) -> None:
    """Take in the images of SOURCE, a folder or s3://bucket/prefix: DICOM, NIfTI, PNG, JPEG, TIFF, WebP, BMP.

    Labels have a column file, relative to the labels, and if you have them modality, patient_id, group_id, anatomy,
    diagnosis, grade, attributes, report, split, source, licence; patient_name is looked for in reports and not kept.
    DICOM needs no labels. File names and patient ids are not stored, and columns that nobody named stay outside.
    Every file is accounted for; the same command again costs only what is new.
    """
    from medgr2.flows.intake import take_in
    from medgr2.infra.workspace import open_workspace
    from medgr2.schemas.intake import IntakeParameters, ReadingRules
    from medgr2.tasks.intake.listing import identifiers, write_listing

    name = run or f"ingest/{datetime.now(UTC).date().isoformat()}"
    rules = {field: asked.pop(field) for field in ("burned_in", "burned_in_everywhere", "frames")}
    workspace = open_workspace(load_settings())
    parameters = IntakeParameters(rules=ReadingRules(**rules), **asked)
    report = take_in(
        workspace, source, labels=labels, parameters=parameters, seed=seed, heldout=heldout, reread=reread, run=name
    )
    if listing is not None:
        write_listing(workspace, source, listing)
    if phi_report:
        emit(identifiers(workspace, source), as_json=as_json, empty="nothing that identifies anybody was found")
    else:
        emit_one(report.model_dump(), as_json=as_json)
