"""Intake: a source's images and, where people wrote any, its questions."""

from __future__ import annotations

from pathlib import Path

from medgr2.infra.workspace import Workspace
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.reports import IntakeReport, StageReport
from medgr2.tasks.intake.ingest import ingest
from medgr2.tasks.questions import HumanDataset, take_questions
from medgr2.tasks.stage import Announce, say_plan


def take_in(
    workspace: Workspace,
    source: str,
    *,
    run: str,
    labels: str = "",
    parameters: IntakeParameters | None = None,
    reread: bool = False,
    seed: Path | None = None,
    heldout: Path | None = None,
    announce: Announce = say_plan,
) -> IntakeReport:
    """Images first: a question is taken only about an image that is in."""
    images = ingest(
        workspace, source, labels, parameters or IntakeParameters(), run=run, announce=announce, reread=reread
    )
    reports: dict[str, StageReport] = {}
    published: list[str] = []
    named: tuple[tuple[HumanDataset, Path | None], ...] = (("seed", seed), ("heldout", heldout))
    for dataset, file in named:
        if file is not None:
            reports[dataset], version = take_questions(workspace, file, dataset, run=run, announce=announce)
            published.append(version.ref)
    return IntakeReport(
        images=images, seed=reports.get("seed"), heldout=reports.get("heldout"), versions=tuple(published)
    )
