"""Finished cycles: their records, and the short table that a person reads after a loop."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from medgr2.infra import versions
from medgr2.infra.workspace import Workspace
from medgr2.models.registry import Registry
from medgr2.schemas.cycle_reports import CycleReport
from medgr2.schemas.errors import DataError, NotFoundError


def told(workspace: Workspace, record: str) -> CycleReport:
    """The report of a finished cycle, which counts only where the lake holds what it tells of."""
    try:
        report = CycleReport.model_validate_json(workspace.store.get(record))
    except ValidationError:
        raise _untrue(workspace, record, "is damaged, or was written by another release") from None
    version, registry = report.night.publish.version, Registry(workspace.store, workspace.lake)
    try:
        held = version is None or versions.resolve(workspace.lake, version.ref).digest == version.digest
        judge = report.reward.candidate if report.reward else None
        for model_id in filter(None, (report.candidate, report.generator, judge)):
            registry.model(model_id)
    except NotFoundError as missing:
        raise _untrue(workspace, record, f"tells of what is not there: {missing.what}") from None
    if not held:
        raise _untrue(workspace, record, "tells of another version than the lake holds")
    return report


def _untrue(workspace: Workspace, record: str, what: str) -> DataError:
    return DataError(
        f"the record of a finished cycle {what}",
        where=f"{record} in {workspace.store.uri}",
        kept="every finished cell, version and model",
        next_command="restore what is missing from a backup; or delete this object and run the same command again: "
        "the cycle is lived again, and nothing that is finished is bought twice",
    )


def summary(reports: list[CycleReport]) -> list[dict[str, Any]]:
    return [_line(report) for report in reports]


def _line(report: CycleReport) -> dict[str, Any]:
    night, exam = report.night, report.exam
    precision, gate = night.appraisal.precision, report.reward.gate if report.reward else None
    return {
        "cycle": report.cycle,
        "drafts": night.generate.accepted,
        "valid": report.valid_share,
        "accepted": night.appraisal.accepted,
        "precision": precision.value if precision else None,
        "version": night.publish.version.ref if night.publish.version else None,
        "added": night.publish.added,
        "before": exam.champion.text() if exam and exam.champion else None,
        "candidate": exam.candidate.text() if exam else None,
        "gain": exam.gain.text() if exam and exam.gain else None,
        "look": exam.level.look if exam and exam.level else None,
        "blind": exam.blind if exam else None,
        "reward": report.reward.decision if report.reward else None,
        "auroc": gate.auroc if gate else None,
        "decision": exam.decision if exam else report.decision,
        "hours": report.spent.hours,
    }
