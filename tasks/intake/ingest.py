"""Ingest: a source's files become stored pictures and rows of `images`. Run again, it costs only what is new."""

from __future__ import annotations

import json
import time
from collections import Counter

import pyarrow as pa

from medgr2.infra.privacy import patient_hasher
from medgr2.infra.sources import open_source
from medgr2.infra.workspace import Workspace
from medgr2.schemas.errors import DataError, NightStoppedError
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.reports import IngestReport, Plan
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.intake.candidates import Candidates, CandidatesBuilder
from medgr2.tasks.intake.case import Case
from medgr2.tasks.intake.identity import choose_owners, judge_files, meet_held
from medgr2.tasks.intake.ledger import Receipt, note
from medgr2.tasks.intake.likeness import compare
from medgr2.tasks.intake.read import reading_recipe
from medgr2.tasks.intake.rows import image_rows
from medgr2.tasks.intake.scrubbing import ReportScrub
from medgr2.tasks.intake.settle import settle
from medgr2.tasks.intake.survey import Survey
from medgr2.tasks.intake.telling import find_telling
from medgr2.tasks.intake.windows import Windows
from medgr2.tasks.stage import Announce
from medgr2.tasks.stage_record import record_run

JUDGED_FROM = 20
"""A smaller source is judged at its end only."""


def ingest(
    workspace: Workspace,
    source: str,
    labels: str,
    parameters: IntakeParameters,
    *,
    run: str,
    announce: Announce,
    reread: bool = False,
) -> IngestReport:
    """Take every file of `source`. `reread` trusts no file to be what it was, whatever its times say."""
    start = time.monotonic()
    hashed = patient_hasher(workspace.settings)
    opened = open_source(source, workspace.settings.storage)
    telling = find_telling(opened, labels, parameters, workspace.settings.storage)
    survey = Survey(opened, hashed)
    recipe = reading_recipe(parameters.rules, hashed("key", "id")[:16])
    receipt = Receipt(workspace, survey, recipe, telling.digest, parameters)
    before = None if reread else receipt.find()
    if before is not None:
        announce(before.plan)
        return before.model_copy(update={"seconds": time.monotonic() - start})
    told = telling.read(hashed)
    if not reread:
        survey.recall(workspace.lake, recipe)
    announce(survey.plan(recipe))
    windows = Windows(workspace, survey, recipe, parameters.rules, run)
    builder = CandidatesBuilder(told, survey.file_id)
    failed = 0
    for window in windows:
        builder.add(window)
        failed += sum((one.outcome.verdict.value if one.outcome else one.verdict) == Verdict.FAILED for one in window)
        _check_limit(workspace, len(survey.files), failed, builder)
    candidates = builder.done()
    plan = Plan(
        stage=recipe.stage, recipe=recipe.digest, found=len(survey.files),
        new=windows.new, reused=windows.reused, retried=windows.retried,
    )  # fmt: skip
    scrub = ReportScrub(parameters.reports)
    case, rows = _admit(workspace, candidates, parameters, scrub, run)
    report = _report(plan, candidates, case, rows, scrub).model_copy(
        update={
            "sidecars": survey.sidecars,
            "columns_left_out": told.left_out,
            "labels_without_a_file": told.unused(file.name for file in survey.files),
            "seconds": time.monotonic() - start,
        }
    )
    if not report.conserved():
        raise DataError(
            f"ingest: found {plan.found} files, but {report.accepted} accepted + {report.rejected} rejected + "
            f"{report.failed} failed", kept="every picture read; no row was lost",
            next_command="run the same command again; if it says the same, report it",
        )  # fmt: skip
    note(workspace, survey, recipe, candidates, case, run)
    record_run(workspace.lake, windows.request, report, telling.digest + survey.digest)
    receipt.leave(report)
    return report


def _admit(
    workspace: Workspace, candidates: Candidates, parameters: IntakeParameters, scrub: ReportScrub, run: str
) -> tuple[Case, pa.Table]:
    """Decided on all that is held, and decided again if anybody else took something in meanwhile."""
    decided: list[tuple[Case, pa.Table]] = []
    benchmarks = workspace.lake.read("benchmarks", ["content", "fingerprint"])

    def make(held: pa.Table) -> pa.Table:
        case = Case(candidates, held, benchmarks, patient_hasher(workspace.settings))
        judge_files(case)
        choose_owners(case)
        meet_held(case)
        settle(case, compare(case), parameters.shares)
        rows = image_rows(case, candidates, held, scrub, run)
        decided.append((case, rows))
        return rows

    workspace.lake.amend("images", make, key="image_id")
    return decided[-1]


def _report(plan: Plan, candidates: Candidates, case: Case, rows: pa.Table, scrub: ReportScrub) -> IngestReport:
    verdicts = Counter(case.verdicts)
    identifiers: Counter[str] = Counter()
    for found in candidates.files["found"].to_pylist():
        identifiers.update(json.loads(found) if found else {})
    owned = set(case.owner)
    return IngestReport(
        plan=plan,
        accepted=verdicts[Verdict.ACCEPTED],
        rejected=verdicts[Verdict.REJECTED],
        failed=verdicts[Verdict.FAILED],
        reasons=dict(Counter(filter(None, case.reasons)).most_common()),
        seconds=0.0,
        pictures=len(owned),
        splits=dict(sorted(Counter(case.splits.values()).items())),
        added=sum(image not in case.held_at for image in owned),
        changed=sum(image in case.held_at for image in rows["image_id"].to_pylist()),
        near_duplicates=case.counts["near_duplicates"],
        near_duplicates_of_two_groups=case.counts["near_duplicates_of_two_groups"],
        parts_left_out=dict(candidates.left_out),
        burned_in=dict(Counter(candidates.pictures["burned_in"].to_pylist())),
        identifiers=dict(sorted((identifiers + scrub.found).items())),
        reports=scrub.met,
    )


def _check_limit(workspace: Workspace, files: int, failed: int, builder: CandidatesBuilder) -> None:
    limit = workspace.settings.compute.failure_limit
    if failed <= limit * files or (files < JUDGED_FROM and builder.files < files):
        return
    reasons = ", ".join(f"{n} x {reason}" for reason, n in builder.failures.most_common(3))
    raise NightStoppedError(
        f"ingest: {failed} of {files} files failed, more than the limit of {limit:.0%}",
        where=reasons,
        kept=f"{builder.files - failed} files that were read; they are not read again",
        next_command="look at the source, then run the same command again; "
        "or take the good files in with MEDGR2_COMPUTE__FAILURE_LIMIT=1",
    )
