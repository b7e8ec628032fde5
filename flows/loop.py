"""`closed-loop`: generate -> evaluate -> optimize -> regenerate, cycle by cycle."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from medgr2.flows.refresh import BatchRefusedError, announce, data_refresh
from medgr2.infra import versions
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.model_ref import base_model
from medgr2.models.registry import Registry
from medgr2.schemas.cycle_reports import CycleReport, Exam, NightReport, RewardTrial
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.schemas.parameters import LoopParameters, RefreshParameters
from medgr2.schemas.reports import DatasetVersion
from medgr2.tasks import improve, promotion, reward
from medgr2.tasks.night import Night, open_night


@flow(name="closed-loop", description="Cycles of refresh, train, evaluate, promote and regenerate.")
def closed_loop(parameters: LoopParameters = LoopParameters()) -> list[CycleReport]:
    reports: list[CycleReport] = []
    for cycle in range(1, parameters.cycles + 1):
        reports.append(turn(parameters, cycle))
        if _waits(parameters, reports[-1]):
            break  # a later night begun now would keep the models of now, and never see what this one is to teach
    return reports


def turn(parameters: LoopParameters, cycle: int) -> CycleReport:
    """A finished cycle is history: run again, it is read, not lived through with what was learned later."""
    tonight = parameters.night(cycle)
    workspace = open_workspace()
    asked = [parameters.model_dump(mode="json", exclude={"cycles"}), base_model(workspace.settings).revision]
    record = f"cycles/{tonight.run}/{digest_of(asked)}.json"
    if workspace.store.exists(record):
        return _told(workspace, record)
    report = live(parameters, tonight, cycle)
    if report.exam is not None or parameters.refresh.score.reviewer == "phantoms":
        # Where people review, a cycle that published nothing yet waits for their verdicts and is lived again.
        workspace.store.create(record, report.model_dump_json().encode())
    return report


def _waits(parameters: LoopParameters, report: CycleReport) -> bool:
    """Whether people have to look before this cycle can publish anything."""
    return parameters.refresh.score.reviewer != "phantoms" and report.night.appraisal.calibration is None


def _told(workspace: Workspace, record: str) -> CycleReport:
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


def live(parameters: LoopParameters, tonight: RefreshParameters, cycle: int) -> CycleReport:
    refreshed = refresh(tonight)
    night = open_night(open_workspace(), tonight)
    # What was found out about bad drafts teaches the reward also where no good one was new.
    judge = co_train(night, parameters, tonight) if refreshed.appraisal.calibration is not None else None
    version = refreshed.publish.version
    if version is None or refreshed.publish.refused or refreshed.publish.added == 0:
        nothing = "nothing new was published: nothing to learn"
        if refreshed.publish.refused:
            nothing = "the batch gives its keys away: not published"
        return CycleReport(cycle=cycle, night=refreshed, decision=nothing, reward=judge)
    candidate = train(night, version, parameters)
    exam = examine(night, candidate)
    generator = regenerate(night, version, parameters)
    return CycleReport(cycle=cycle, night=refreshed, candidate=candidate, exam=exam, generator=generator, reward=judge)


def refresh(tonight: RefreshParameters) -> NightReport:
    """A batch that is refused ends its night; the loop goes on with what it taught."""
    try:
        return data_refresh(tonight)
    except BatchRefusedError as refused:
        if refused.night is None:
            raise
        get_run_logger().warning(refused.night.publish.line())
        return refused.night


@task(cache_policy=NO_CACHE)
def co_train(night: Night, parameters: LoopParameters, tonight: RefreshParameters) -> RewardTrial | None:
    """The reward of the next cycle: this one's was frozen when its night began."""
    if parameters.train.judge_steps == 0:
        return None
    trial = reward.co_train(open_workspace(), night, tonight, parameters.train, parameters.seed, announce)
    get_run_logger().info(trial.line())
    return trial


@task(cache_policy=NO_CACHE)
def train(night: Night, version: DatasetVersion, parameters: LoopParameters) -> str:
    """The candidate's id. SIGKILLed, it goes on from the last checkpoint; done before, it is found."""
    return improve.train_policy(open_workspace(), night, version, parameters.train, parameters.seed, announce)


@task(cache_policy=NO_CACHE)
def examine(night: Night, candidate: str) -> Exam:
    """Candidate and champion sit the same held-out exam; the champion is replaced only by a better one."""
    exam = promotion.sit(open_workspace(), night, candidate, announce)
    get_run_logger().info(exam.line())
    return exam


@task(cache_policy=NO_CACHE)
def regenerate(night: Night, version: DatasetVersion, parameters: LoopParameters) -> str | None:
    """The generator of the next cycle."""
    if parameters.train.generator_steps == 0:
        return None
    if night.served:
        get_run_logger().info(f"{night.generator} is served by somebody else: it is not trained here")
        return None
    workspace = open_workspace()
    generator = improve.train_generator(workspace, night, version, parameters.train, parameters.seed, announce)
    if generator is not None:
        promotion.use_generator(workspace, night, generator)
    return generator


def summary(reports: list[CycleReport]) -> list[dict[str, Any]]:
    """The short table a person reads after a loop."""
    return [_line(report) for report in reports]


def _line(report: CycleReport) -> dict[str, Any]:
    night, exam = report.night, report.exam
    return {
        "cycle": report.cycle,
        "drafts": _drafts(night),
        "accepted": night.appraisal.accepted,
        "version": night.publish.version.ref if night.publish.version else None,
        "added": night.publish.added,
        "before": exam.champion.text() if exam and exam.champion else None,
        "candidate": exam.candidate.text() if exam else None,
        "blind": exam.blind if exam else None,
        "reward": report.reward.decision if report.reward else None,
        "decision": exam.decision if exam else report.decision,
    }


def _drafts(night: NightReport) -> int:
    return night.generate.accepted
