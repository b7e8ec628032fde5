"""`data-refresh`: one night of data. Coarse tasks and counts only; rows, images and patients stay in storage."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from medgr2.flows.embedded import EmbeddedWorld, ask_reviewer, build, embedded_world
from medgr2.flows.intake import take_in
from medgr2.infra.settings import load_settings
from medgr2.infra.workspace import open_workspace
from medgr2.schemas.cycle_reports import NightReport
from medgr2.schemas.errors import ConflictError, DataError, Medgr2Error, NightStoppedError, StorageError
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IntakeReport
from medgr2.schemas.parameters import EMBEDDED, RefreshParameters
from medgr2.schemas.reports import AppraisalReport, Diversity, GenerateReport, Plan, PublishReport
from medgr2.tasks import appraise as appraisal
from medgr2.tasks import generate as generation
from medgr2.tasks import publish as publication
from medgr2.tasks.night import Night, images_of, open_night, waiting
from medgr2.tasks.stage import say_plan
from medgr2.tasks.waves import Wave, first_wave, next_wave


def worth_trying_again(_task: Any, _run: Any, state: Any) -> bool:
    """A store that was away may be back; a missing folder or bad data will not mend itself in seconds."""
    try:
        state.result()
    except (StorageError, ConflictError):
        return True
    except Medgr2Error:
        return False
    except Exception:
        return True
    return False


PATIENT: dict[str, Any] = {
    "retries": 2, "retry_delay_seconds": 10, "retry_condition_fn": worth_trying_again, "cache_policy": NO_CACHE,
}  # fmt: skip


class BatchRefusedError(NightStoppedError):
    """The night's batch gives its keys away. Everything else of the night stands, and its report is here."""

    night: NightReport | None = None


@flow(name="data-refresh", description="One night: ingest what is new, generate, score, select, publish.")
def data_refresh(parameters: RefreshParameters = RefreshParameters()) -> NightReport:
    tonight = parameters.tonight()
    intake = ingest_new(tonight) if tonight.source else None
    night = begin(tonight)
    wave: Wave | None = first_wave(tonight.generate.target)
    while wave is not None:
        drafts = generate(night, tonight, wave)
        appraised = score(night, tonight, drafts.asked)
        wave = next_wave(wave, tonight.generate.target, drafts, appraised)
    published = publish(night, tonight, drafts.asked, drafts.diversity)
    report = NightReport(
        run=night.run,
        intake=intake,
        generate=drafts,
        appraisal=appraised,
        publish=published,
        images_waiting=waiting(open_workspace(), night, tonight.generate),
    )
    if (refused := publication.refusal(published, night.run)) is not None:
        stopped = BatchRefusedError(
            refused.what, where=refused.where, kept=refused.kept, next_command=refused.next_command
        )
        stopped.night = report
        raise stopped
    return report


@task(**PATIENT)
def ingest_new(parameters: RefreshParameters) -> IntakeReport:
    workspace = open_workspace()
    world = world_of(parameters)
    if world is None:
        return take_in(
            workspace,
            parameters.source,
            labels=parameters.labels,
            parameters=parameters.intake,
            run=parameters.run,
            announce=announce,
        )
    build(world)
    return take_in(
        workspace,
        str(world.hospital),
        parameters=IntakeParameters(reports="keep"),  # drawn by a machine: nobody is in them
        run=parameters.run,
        seed=world.hospital / "seed_qa.jsonl",
        heldout=world.hospital / "heldout.jsonl",
        announce=announce,
    )


@task(cache_policy=NO_CACHE)
def begin(parameters: RefreshParameters) -> Night:
    return open_night(open_workspace(), parameters)


@task(**PATIENT)
def generate(night: Night, parameters: RefreshParameters, wave: Wave) -> GenerateReport:
    workspace = open_workspace()
    report = generation.generate(
        workspace,
        parameters.generate,
        images_of(workspace, night),
        model=night.generator,
        run=night.run,
        announce=announce,
        upto=wave.upto,
        since=night.began,
    )
    get_run_logger().info(report.line())
    return report


@task(**PATIENT)
def score(night: Night, parameters: RefreshParameters, asked: int) -> AppraisalReport:
    world = world_of(parameters)
    ask = None
    if parameters.score.reviewer == "phantoms":
        if world is None:
            raise DataError("the phantoms can only review their own world", where=f"source {parameters.source!r}")
        ask = lambda requests: ask_reviewer(world, requests)  # noqa: E731
    report = appraisal.appraise(open_workspace(), night, parameters, ask, announce, asked=asked)
    get_run_logger().info(report.line())
    for alarm in report.alarms:
        get_run_logger().warning(alarm)
        emit_event(
            "medgr2.alarm", resource={"prefect.resource.id": f"medgr2.run.{night.run}"}, payload={"alarm": alarm}
        )
    return report


@task(**PATIENT)
def publish(night: Night, parameters: RefreshParameters, asked: int, diversity: Diversity | None) -> PublishReport:
    report = publication.publish(open_workspace(), night, parameters, asked=asked, diversity=diversity)
    get_run_logger().info(report.line())
    return report


def world_of(parameters: RefreshParameters) -> EmbeddedWorld | None:
    if parameters.source != EMBEDDED:
        return None
    return embedded_world(load_settings(), parameters.world.seed, parameters.world.images)


def announce(plan: Plan) -> None:
    """The plan, before anything is spent: on the terminal for a person, in the run's log for the UI."""
    say_plan(plan)
    get_run_logger().info(plan.line())
