"""Ingest: a source's files become stored pictures and rows of `images`. Run again, it costs only what is new."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from itertools import chain

import pyarrow as pa

from medgr2.infra.lake import Amendment
from medgr2.infra.memory import give_back, spare
from medgr2.infra.privacy import patient_hasher
from medgr2.infra.sources import open_source
from medgr2.infra.workspace import Workspace
from medgr2.schemas.errors import DataError, NightStoppedError
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IngestReport
from medgr2.schemas.reports import Plan
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.intake.candidates import Candidates, CandidatesBuilder
from medgr2.tasks.intake.case import HELD, Case, Elsewhere
from medgr2.tasks.intake.identity import choose_owners, judge_files, meet_held
from medgr2.tasks.intake.ledger import Receipt, note, said_elsewhere
from medgr2.tasks.intake.likeness import compare
from medgr2.tasks.intake.read import reading_recipe
from medgr2.tasks.intake.rows import changed, elsewhere_changed, elsewhere_rows, image_rows
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
    spare()
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
    builder = CandidatesBuilder(told, survey.file_id, survey.stamp)
    failed = 0
    for window in windows:
        builder.add(window)
        failed += sum((one.outcome.verdict.value if one.outcome else one.verdict) == Verdict.FAILED for one in window)
        _check_limit(workspace, len(survey.files), failed, builder)
        give_back()
    candidates = builder.done()
    plan = Plan(
        stage=recipe.stage, recipe=recipe.digest, found=len(survey.files),
        new=windows.new, reused=windows.reused, retried=windows.retried,
    )  # fmt: skip
    scrub = ReportScrub(parameters.reports)
    case, written = _admit(
        workspace, candidates, parameters, scrub, run, lambda: said_elsewhere(workspace, survey, recipe)
    )
    report = _report(plan, candidates, case, written, scrub).model_copy(
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
    workspace: Workspace,
    candidates: Candidates,
    parameters: IntakeParameters,
    scrub: ReportScrub,
    run: str,
    elsewhere: Callable[[], Elsewhere],
) -> tuple[Case, list[str]]:
    """Decided on all that is held, and decided again if anybody else took something in meanwhile. With the case come
    the images whose rows were written."""
    lake = workspace.lake
    decided: list[tuple[Case, list[str]]] = []
    benchmarks = lake.read("benchmarks", ["content", "fingerprint"])

    def make(held: pa.Table) -> Amendment:
        case = Case(candidates, held, benchmarks, patient_hasher(workspace.settings), elsewhere)
        judge_files(case)
        choose_owners(case)
        meet_held(case)
        settle(case, compare(case), parameters.shares)
        own, others = changed(case), elsewhere_changed(case)
        scrub.begin(candidates.files["report"].null_count < candidates.files.num_rows)
        decided.append((case, own + others))
        parts = image_rows(case, candidates, own, scrub, run)
        if not others:
            return Amendment(any(image in case.held_at for image in own), parts)
        rows = lake.read("images", where={"image_id": others})
        return Amendment(True, chain(parts, [elsewhere_rows(case, rows)]))

    lake.amend("images", make, key="image_id", columns=HELD)
    return decided[-1]


def _report(plan: Plan, candidates: Candidates, case: Case, written: list[str], scrub: ReportScrub) -> IngestReport:
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
        changed=sum(image in case.held_at for image in written),
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
