"""`closed-loop`: generate -> evaluate -> optimize -> regenerate, cycle by cycle."""

from __future__ import annotations

import resource

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from medgr2.flows.approval import ask_person, later
from medgr2.flows.cycle_records import told
from medgr2.flows.refresh import BatchRefusedError, announce, data_refresh
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.model_ref import base_model, policy_model
from medgr2.models.stop_rules import why_stop
from medgr2.schemas.approvals import Approval
from medgr2.schemas.cycle_reports import CycleReport, Exam, NightReport, RewardTrial
from medgr2.schemas.digest import digest_of
from medgr2.schemas.parameters import LoopParameters, RefreshParameters
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.stopping import Stop
from medgr2.tasks import improve, preset_check, promotion, reward, vigil
from medgr2.tasks.cycle_cost import spent
from medgr2.tasks.night import Night, open_night

NOTHING_NEW = "nothing new was published: nothing to learn"


@flow(name="closed-loop", description="Cycles of refresh, train, evaluate, promote and regenerate.")
def closed_loop(parameters: LoopParameters = LoopParameters()) -> list[CycleReport]:
    reports: list[CycleReport] = []
    for warning in preset_check.refuse_unmet(open_workspace().settings, parameters.train):
        get_run_logger().warning(warning)
    for cycle in range(1, parameters.cycles + 1):
        reports.append(turn(parameters, cycle))
        if _waits(parameters, reports[-1]):
            break  # a later night begun now would keep the models of now, and never see what this one is to teach
        if (stop := why_stop(reports, parameters.stop)) is not None:
            reports[-1] = stopped(parameters, reports[-1], stop)
            break
    return reports


def stopped(parameters: LoopParameters, report: CycleReport, stop: Stop) -> CycleReport:
    """Told to whoever looks, and kept; the cycle's own record stays as it was."""
    get_run_logger().warning(f"the loop ends after cycle {stop.after}, {stop.ground}: {stop.reason}")
    emit_event(
        "medgr2.loop.stopped",
        resource={"prefect.resource.id": f"medgr2.run.{report.night.run}"},
        payload=stop.model_dump(mode="json"),
    )
    asked = digest_of([parameters.lived, parameters.stop.model_dump(mode="json")])
    open_workspace().store.create(f"stops/{report.night.run}/{asked}.json", stop.model_dump_json().encode())
    return report.model_copy(update={"stop": stop})


def turn(parameters: LoopParameters, cycle: int) -> CycleReport:
    """A finished cycle is history: run again, it is read, not lived through with what was learned later."""
    tonight = parameters.night(cycle)
    workspace = open_workspace()
    record = f"cycles/{tonight.run}/{digest_of([parameters.lived, *_given(workspace)])}.json"
    if workspace.store.exists(record):
        return told(workspace, record)
    before = cpu_seconds()
    report = live(parameters, tonight, cycle)
    report = report.model_copy(
        update={
            "spent": spent(workspace.lake, tonight.run),
            "cpu_seconds": cpu_seconds() - before if workspace.settings.compute.mode == "inline" else None,
        }
    )
    if _finished(parameters, report):
        workspace.store.create(record, report.model_dump_json().encode())
    return report


def _finished(parameters: LoopParameters, report: CycleReport) -> bool:
    """Not yet where people review and nothing was published, and not where nobody could be asked about the candidate:
    that cycle waits for them and is lived again."""
    if report.exam is not None:
        return report.exam.decision != promotion.PASSED
    return parameters.refresh.score.reviewer == "phantoms"


def _given(workspace: Workspace) -> list[str]:
    """The models that nobody trained here: with others, it is another loop."""
    settings = workspace.settings
    return [base_model(settings).revision, policy_model(settings).revision]


def cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _waits(parameters: LoopParameters, report: CycleReport) -> bool:
    """Whether people have to look before this cycle can publish anything."""
    return parameters.refresh.score.reviewer != "phantoms" and report.night.appraisal.calibration is None


def live(parameters: LoopParameters, tonight: RefreshParameters, cycle: int) -> CycleReport:
    refreshed = refresh(tonight)
    workspace = open_workspace()
    night = open_night(workspace, tonight)
    # What was found out about bad drafts teaches the reward also where no good one was new.
    judge = co_train(night, parameters, tonight) if refreshed.appraisal.calibration is not None else None
    report = CycleReport(
        cycle=cycle,
        night=refreshed,
        reward=judge,
        valid_share=vigil.valid_share(workspace.lake, tonight.run),
        fallen=vigil.fallen(workspace.lake, night, refreshed.appraisal.precision),
    )
    version = refreshed.publish.version
    if version is None or (nothing := _nothing_to_learn(report)):
        return report.model_copy(update={"decision": nothing if version else NOTHING_NEW})
    taught = train(night, version, parameters)
    candidate = taught.model_id
    exam = promote(night, candidate, examine(night, candidate), parameters)
    generator = regenerate(night, version, parameters)
    return report.model_copy(
        update={"candidate": candidate, "exam": exam, "generator": generator, "notes": taught.notes}
    )


def _nothing_to_learn(report: CycleReport) -> str:
    if report.night.publish.refused:
        return "the batch gives its keys away: not published"
    if report.night.publish.added == 0:
        return NOTHING_NEW
    return f"nothing is learned from this night: {report.fallen}" if report.fallen else ""


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
    if parameters.train.settings.judge_steps == 0:
        return None
    trial = reward.co_train(open_workspace(), night, tonight, parameters.train, parameters.seed, announce)
    get_run_logger().info(trial.line())
    return trial


@task(cache_policy=NO_CACHE)
def train(night: Night, version: DatasetVersion, parameters: LoopParameters) -> improve.Taught:
    """The candidate. SIGKILLed, it goes on from the last checkpoint; done before, it is found."""
    taught = improve.train_policy(open_workspace(), night, version, parameters.train, parameters.seed, announce)
    for note in taught.notes:
        get_run_logger().warning(note)
    return taught


@task(cache_policy=NO_CACHE)
def examine(night: Night, candidate: str) -> Exam:
    """Candidate and champion sit the same held-out exam."""
    return promotion.sit(open_workspace(), night, candidate, announce)


def promote(night: Night, candidate: str, exam: Exam, parameters: LoopParameters) -> Exam:
    """The champion is replaced only by a better one and, where a person is to be asked, only on that person's word."""
    approval = None
    if parameters.approval == "person" and promotion.open_question(open_workspace(), candidate, exam):
        approval = ask_person(open_workspace(), night, candidate, exam, parameters.approval_hours)
        if approval is None:
            return promotion.unasked(exam, later(candidate))
    return settle(night, candidate, exam, approval)


@task(cache_policy=NO_CACHE)
def settle(night: Night, candidate: str, exam: Exam, approval: Approval | None) -> Exam:
    settled = promotion.settle(open_workspace(), night, candidate, exam, approval)
    get_run_logger().info(settled.line())
    return settled


@task(cache_policy=NO_CACHE)
def regenerate(night: Night, version: DatasetVersion, parameters: LoopParameters) -> str | None:
    """The generator of the next cycle."""
    if parameters.train.settings.generator_steps == 0:
        return None
    workspace = open_workspace()
    if why := improve.why_not_taught(night, workspace.settings):
        get_run_logger().warning(f"the generator stays as it is: {why}")
        return None
    generator = improve.train_generator(workspace, night, version, parameters.train, parameters.seed, announce)
    if generator is not None:
        promotion.use_generator(workspace, night, generator)
    return generator
