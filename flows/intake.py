"""Intake: a source's images and, where people wrote any, its questions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from medgr2.infra.workspace import Workspace
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IntakeReport
from medgr2.schemas.parameters import HELDOUT, SEED
from medgr2.schemas.reports import StageReport
from medgr2.tasks.free_questions import take_free
from medgr2.tasks.intake.ingest import ingest
from medgr2.tasks.intake.layouts import layout_of
from medgr2.tasks.questions import Rows, questions_in, take_questions
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
    left_out: Counter[str] = Counter()
    free: dict[str, int] = {}

    def take(dataset: str, rows: Rows, folder: Path) -> None:
        reports[dataset], version = take_questions(workspace, rows, folder, dataset, run=run, announce=announce)
        published.append(version.ref)

    for dataset, file in ((SEED, seed), (HELDOUT, heldout)):
        if file is not None:
            take(dataset, questions_in(file), file.parent)
    if parameters is not None and parameters.layout:
        layout = layout_of(source, parameters.layout)
        questions = list(enumerate(layout.questions(), start=1))
        left_out = layout.account().left_out
        if questions:
            take(layout.name, questions, layout.folder)
        free = take_free(workspace, layout.name, layout.free_questions(), layout.folder, run=run)
    return IntakeReport(
        images=images,
        questions=reports,
        questions_left_out=dict(left_out),
        free_questions=free,
        versions=tuple(published),
    )
