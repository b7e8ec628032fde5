"""A stage: cells in, outcomes out, and nothing bought twice. Every stage of the product is run by run_stage."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from medgr2.infra.compute import Compute, open_compute
from medgr2.infra.interrupts import end_stage
from medgr2.infra.journal import Journal
from medgr2.infra.journal_writer import JournalWriter
from medgr2.infra.objects import ObjectStore
from medgr2.infra.progress import ProgressLine, Tally
from medgr2.infra.purse import Purse, Spent
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.schemas.cells import Cell
from medgr2.schemas.errors import NightStoppedError
from medgr2.schemas.reports import Plan
from medgr2.schemas.usage import Budget
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.stage_recipes import keep_recipe
from medgr2.tasks.stage_record import record
from medgr2.tasks.stage_request import Limit, StageRequest, StageResult, post_request
from medgr2.tasks.stage_sum import Fresh, sum_up
from medgr2.tasks.stage_survey import Survey, survey

__all__ = ["Announce", "StageRequest", "StageResult", "plan", "record", "run_and_record", "run_stage", "say_plan"]

Announce = Callable[[Plan], None]
"""Told the plan before anything is spent."""

LIMIT_FROM = 20
"""A run of fewer cells is judged at its end only."""

log = logging.getLogger(__name__)


def plan(request: StageRequest, cells: Iterable[Cell], journal: Journal) -> Plan:
    """What a run would do now. The request must be settled."""
    return survey(request, cells, journal).plan()


def say_plan(made: Plan) -> None:
    sys.stderr.write(made.line() + "\n")


def run_stage(
    request: StageRequest,
    cells: Iterable[Cell],
    *,
    settings: Settings,
    store: ObjectStore,
    journal: Journal | None = None,
    compute: Compute | None = None,
    on_plan: Announce = say_plan,
    on_progress: Callable[[Tally], None] | None = None,
    budget: Budget | None = None,
    since: int | None = None,
) -> StageResult:
    """Work on the cells that have no final outcome yet. Killed at any point and run again, it goes on from there.

    With a budget, cells begin in the order given as far as it goes; what they cost since `since` (nanoseconds since
    the epoch) was spent of it already, so that a night that is killed and run again spends it once."""
    start = time.monotonic()
    request = request.settled(settings)
    journal = journal or Journal(store, request.recipe.stage)
    found = survey(request, cells, journal)
    made = found.plan()
    for damage in journal.damaged:
        log.warning("%s: its cells are done again; delete the object when you have looked at it", damage)
    on_plan(made)
    limit = Limit(budget, since)
    fresh = Fresh(found.place)
    purse = Purse(budget, _spent(found, journal, limit), request.calls)
    if todo := found.todo():
        line = ProgressLine(request.recipe.stage)
        tally = Tally(total=len(todo))
        with contextlib.closing(line), end_stage(), JournalWriter(journal) as writer:
            if compute is None:
                compute = _open(request, found.cells, limit, settings, store, journal, writer)
            stream = compute.run(request.work(), todo, found.tries(), purse)
            with contextlib.closing(stream):  # type: ignore[type-var]
                for outcome in stream:
                    if not compute.durable:
                        writer.add(outcome)
                    purse.ended(outcome)
                    fresh.add(outcome)
                    tally.done += 1
                    tally.failed += outcome.verdict is Verdict.FAILED
                    line(tally)
                    if on_progress is not None:
                        on_progress(tally)
                    if found.done_before + tally.done >= LIMIT_FROM:
                        _check_limit(request, found, journal, fresh, found.failed_before + tally.failed, made.found)
    result = sum_up(found, made, journal, fresh, purse, limit, time.monotonic() - start)
    report = result.report
    _check_limit(request, found, journal, fresh, report.failed, made.found - report.left)
    keep_recipe(store, request.recipe)
    return result


def _spent(found: Survey, journal: Journal, limit: Limit) -> Spent | None:
    if limit.budget is None or limit.since is None:
        return None
    return journal.spent(list(found.place), limit.since)


def _open(
    request: StageRequest,
    cells: Sequence[Cell],
    limit: Limit,
    settings: Settings,
    store: ObjectStore,
    journal: Journal,
    writer: JournalWriter,
) -> Compute:
    if settings.compute.mode == "ray-job":
        from medgr2.infra.compute_job import RayJob

        return RayJob(settings, journal, *post_request(store, request, cells, limit))
    if request.in_flight is not None:
        from medgr2.infra.compute_stream import Streamed

        return Streamed(settings, request.in_flight, writer)
    return open_compute(settings)


def run_and_record(
    request: StageRequest,
    cells: Iterable[Cell],
    workspace: Workspace,
    announce: Announce = say_plan,
    *,
    budget: Budget | None = None,
    since: int | None = None,
) -> StageResult:
    """Run the stage and tell the lake. Killed in between, the next run of the same command tells it."""
    result = run_stage(
        request,
        cells,
        settings=workspace.settings,
        store=workspace.store,
        on_plan=announce,
        budget=budget,
        since=since,
    )
    record(workspace.lake, request, result)
    return result


def _check_limit(request: StageRequest, found: Survey, journal: Journal, fresh: Fresh, failed: int, of: int) -> None:
    limit = 1.0 if request.failure_limit is None else request.failure_limit
    if failed <= limit * of:
        return
    reasons = fresh.failures + journal.reasons(found.given_up())
    raise NightStoppedError(
        f"{request.recipe.stage}: {failed} of {of} cells failed, more than the limit of {limit:.0%}",
        where=", ".join(f"{n} x {reason}" for reason, n in reasons.most_common(3)),
        kept=f"{found.well_before + fresh.well} finished cells; they are not done again",
        next_command="mend the cause and run the same command again, or raise MEDGR2_COMPUTE__FAILURE_LIMIT",
    )
