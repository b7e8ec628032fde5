"""A stage: cells in, outcomes out, and nothing bought twice. Every stage of the product is run by run_stage."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType

from medgr2.infra.compute import Compute, open_compute
from medgr2.infra.journal import Journal
from medgr2.infra.journal_index import Standing
from medgr2.infra.journal_writer import JournalWriter
from medgr2.infra.objects import ObjectStore
from medgr2.infra.progress import ProgressLine, Tally
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.schemas.cells import Cell, Outcome
from medgr2.schemas.errors import DataError, NightStoppedError
from medgr2.schemas.reports import Plan, StageReport
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.stage_record import record
from medgr2.tasks.stage_request import StageRequest, StageResult, post_request

__all__ = ["Announce", "StageRequest", "StageResult", "plan", "record", "run_and_record", "run_stage", "say_plan"]

Announce = Callable[[Plan], None]
"""Told the plan before anything is spent."""

LIMIT_FROM = 20
"""A run of fewer cells is judged at its end only."""

log = logging.getLogger(__name__)


def plan(request: StageRequest, cells: Iterable[Cell], journal: Journal) -> Plan:
    """What a run would do now. The request must be settled."""
    keys = list(dict.fromkeys(cell.key for cell in cells))
    return _plan(request, keys, journal.index().standings(keys))


def _plan(request: StageRequest, keys: Sequence[str], held: Mapping[str, Standing | Outcome]) -> Plan:
    retried = sum(_again(request, held[key]) for key in keys if key in held)
    return Plan(
        stage=request.recipe.stage,
        recipe=request.recipe.digest,
        found=len(keys),
        new=len(keys) - len(held),
        reused=len(held) - retried,
        retried=retried,
    )


def _again(request: StageRequest, held: Standing | Outcome) -> bool:
    return held.verdict is Verdict.FAILED and request.attempts is not None and held.attempt < request.attempts


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
) -> StageResult:
    """Work on the cells that have no final outcome yet. Killed at any point and run again, it goes on from there."""
    start = time.monotonic()
    request = request.settled(settings)
    found = {cell.key: cell for cell in cells}
    journal = journal or Journal(store, request.recipe.stage)
    outcomes = journal.outcomes(found)
    made = _plan(request, list(found), outcomes)
    for damage in journal.damaged:
        log.warning("%s: its cells are done again; delete the object when you have looked at it", damage)
    on_plan(made)
    todo = [cell for key, cell in found.items() if key not in outcomes or _again(request, outcomes[key])]
    tries = {cell.key: outcomes[cell.key].attempt for cell in todo if cell.key in outcomes}
    failed = sum(o.verdict is Verdict.FAILED for o in outcomes.values()) - len(tries)
    done_before = made.found - len(todo)
    if todo:
        if compute is None:
            compute = _open(request, found.values(), settings, store, journal)
        line = ProgressLine(request.recipe.stage)
        tally = Tally(total=len(todo))
        with contextlib.closing(line), _terminates(), JournalWriter(journal) as writer:
            stream = compute.run(request.work(), todo, tries)
            with contextlib.closing(stream):  # type: ignore[type-var]
                for outcome in stream:
                    if not compute.durable:
                        writer.add(outcome)
                    outcomes[outcome.key] = outcome
                    tally.done += 1
                    tally.failed += outcome.verdict is Verdict.FAILED
                    line(tally)
                    if on_progress is not None:
                        on_progress(tally)
                    if done_before + tally.done >= LIMIT_FROM:
                        _check_limit(request, made, outcomes, failed + tally.failed)
    result = _result(request, made, tuple(found.values()), outcomes, journal.damaged, time.monotonic() - start)
    _check_limit(request, made, outcomes, result.report.failed)
    return result


def _open(
    request: StageRequest, cells: Iterable[Cell], settings: Settings, store: ObjectStore, journal: Journal
) -> Compute:
    if settings.compute.mode != "ray-job":
        return open_compute(settings)
    from medgr2.infra.compute_job import RayJob

    return RayJob(settings, journal, *post_request(store, request, cells))


def run_and_record(
    request: StageRequest, cells: Iterable[Cell], workspace: Workspace, announce: Announce = say_plan
) -> StageResult:
    """Run the stage and tell the lake. Killed in between, the next run of the same command tells it."""
    result = run_stage(request, cells, settings=workspace.settings, store=workspace.store, on_plan=announce)
    record(workspace.lake, request, result)
    return result


def _result(
    request: StageRequest,
    made: Plan,
    cells: tuple[Cell, ...],
    outcomes: Mapping[str, Outcome],
    damaged: tuple[str, ...],
    seconds: float,
) -> StageResult:
    missing = [cell.key for cell in cells if cell.key not in outcomes]
    ordered = {cell.key: outcomes[cell.key] for cell in cells if cell.key in outcomes}
    verdicts = Counter(outcome.verdict for outcome in ordered.values())
    report = StageReport(
        plan=made,
        accepted=verdicts[Verdict.ACCEPTED],
        rejected=verdicts[Verdict.REJECTED],
        failed=verdicts[Verdict.FAILED],
        reasons=dict(Counter(reason for outcome in ordered.values() for reason in outcome.reasons).most_common()),
        seconds=seconds,
    )
    if not report.conserved() or len(outcomes) != made.found:
        raise DataError(
            f"{request.recipe.stage}: found {made.found} cells, but {report.accepted} accepted + {report.rejected} "
            f"rejected + {report.failed} failed; {len(missing)} without an outcome",
            where=f"first without: {missing[0]}" if missing else "outcomes of cells that nobody asked for",
            kept="every finished cell, in the journal",
            next_command="run the same command again; if it says the same, report it",
        )
    return StageResult(report, cells, ordered, damaged)


def _check_limit(request: StageRequest, made: Plan, outcomes: Mapping[str, Outcome], failed: int) -> None:
    limit = 1.0 if request.failure_limit is None else request.failure_limit
    if failed <= limit * made.found:
        return
    reasons = Counter(
        reason for o in outcomes.values() if o.verdict is Verdict.FAILED for reason in o.reasons
    ).most_common(3)
    finished = sum(o.verdict is not Verdict.FAILED for o in outcomes.values())
    raise NightStoppedError(
        f"{made.stage}: {failed} of {made.found} cells failed, more than the limit of {limit:.0%}",
        where=", ".join(f"{n} x {reason}" for reason, n in reasons),
        kept=f"{finished} finished cells; they are not done again",
        next_command="mend the cause and run the same command again, or raise MEDGR2_COMPUTE__FAILURE_LIMIT",
    )


@contextlib.contextmanager
def _terminates() -> Iterator[None]:
    """SIGTERM ends a stage as Ctrl-C does: what is finished reaches the journal first. A second one changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt("SIGTERM")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
