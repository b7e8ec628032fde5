"""A person's word on a candidate that passed its exam: by a form of a paused run, or at the terminal.

Counts, intervals and ids only: nothing of a patient is shown, and nothing of one should be typed.
"""

from __future__ import annotations

import contextlib
import select
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import click
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import FlowPauseTimeout, ObjectNotFound
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.input.actions import read_flow_run_input
from prefect.input.run_input import keyset_from_base_key
from prefect.settings import get_current_settings
from prefect.states import Cancelled
from pydantic import Field

from medgr2.infra.workspace import Workspace
from medgr2.models.approvals import ApprovalDesk
from medgr2.schemas.approvals import Approval
from medgr2.schemas.cycle_reports import Exam
from medgr2.tasks.night import Night

POLL_SECONDS = 5
SLACK_SECONDS = 3600
"""The server's deadline lies behind ours: a run that it gives up itself would fail, and end the loop."""
NOBODY = "nobody"


class PromotionForm(RunInput):
    """What the person who answers fills in."""

    approve: bool = Field(default=False, description="The candidate becomes the champion.")
    name: str = Field(min_length=1, max_length=200, description="Who decides; kept with the champion's move.")
    comment: str = Field(default="", max_length=1000, description="Kept too. Nothing of a patient, please.")


def ask_person(workspace: Workspace, night: Night, candidate: str, exam: Exam, hours: float) -> Approval | None:
    """The answer, asked for once; the champion stays where nobody answers in time. None where nobody can be asked: the
    question stays open, its time does not run, and the same loop with a terminal or a server asks it."""
    desk = ApprovalDesk(workspace.store, candidate=candidate, champion=night.champion_id, heldout=exam.heldout)
    if (said := desk.said() or _answered_before(desk)) is not None:
        return said
    if not (_has_server() or _has_terminal()):
        return None
    deadline = desk.asked_at() + timedelta(hours=hours)
    ask = _by_form if _has_server() else _at_the_terminal
    said = ask(desk, night, candidate, exam, deadline) if _left(deadline) > 0 else None
    return desk.answer(said or _nobody(f"nobody answered within {hours:g} h; {later(candidate)}"))


def later(candidate: str) -> str:
    return f"medgr2 promote {candidate[:12]} takes it still"


def _by_form(desk: ApprovalDesk, night: Night, candidate: str, exam: Exam, deadline: datetime) -> Approval | None:
    run = FlowRunContext.get()
    assert run is not None and run.flow_run is not None  # noqa: S101, PT018  called by a flow
    for earlier in desk.forms():
        _take_down(earlier)
    desk.put_up(str(run.flow_run.id))
    get_run_logger().warning(f"{night.run}: waits for a person until {deadline:%Y-%m-%d %H:%M} UTC")
    # An automation of the server can tell people.
    emit_event(
        "medgr2.approval.asked",
        resource={"prefect.resource.id": f"medgr2.run.{night.run}"},
        payload={"candidate": candidate, "until": deadline.isoformat()},
    )
    form = PromotionForm.with_initial_data(description=description(night, candidate, exam))
    left = _left(deadline)
    with _nobody_answers_after(left, run.flow_run.id), contextlib.suppress(FlowPauseTimeout):
        filled = pause_flow_run(
            wait_for_input=form, timeout=int(left + SLACK_SECONDS), poll_interval=POLL_SECONDS, key=_key(desk)
        )
        return _said(filled)
    return None


def _said(form: PromotionForm) -> Approval | None:
    if form.name == NOBODY:
        return None
    return Approval(approve=form.approve, by=form.name, comment=form.comment, at=datetime.now(UTC))


@contextlib.contextmanager
def _nobody_answers_after(seconds: float, run_id: UUID) -> Iterator[None]:
    """At the deadline the form is filled in here: a run that the server gives up itself could not go on."""
    done = threading.Event()

    def answer() -> None:
        wait = seconds
        while not done.wait(wait):
            wait = POLL_SECONDS
            # Not paused yet, a server that is away for a moment, or a person was faster: done at the next look.
            with contextlib.suppress(Exception):
                resume_flow_run(run_id, run_input={"approve": False, "name": NOBODY, "comment": ""})

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _answered_before(desk: ApprovalDesk) -> Approval | None:
    """What was said to a form whose process was killed before it could read it."""
    if not _has_server():
        return None
    for earlier in desk.forms():
        answer = read_flow_run_input(keyset_from_base_key(f"paused-{_key(desk)}")["response"], UUID(earlier))
        if answer is not None and (said := _said(PromotionForm.model_validate(answer))) is not None:
            return desk.answer(said)
    return None


def _take_down(run_id: str) -> None:
    """The form of a try that was killed: nobody would read what is said to it from now on."""
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        state = client.read_flow_run(UUID(run_id)).state
        if state is not None and state.is_paused():
            client.set_flow_run_state(UUID(run_id), Cancelled(message="asked again by a later run"), force=True)


def _at_the_terminal(
    desk: ApprovalDesk, night: Night, candidate: str, exam: Exam, deadline: datetime
) -> Approval | None:
    del desk
    click.echo("\n" + description(night, candidate, exam))
    click.echo(f"Without an answer until {deadline:%Y-%m-%d %H:%M} UTC the champion is kept.")
    try:
        approve = _typed("Make it the champion? [y/N]: ", deadline).lower() in ("y", "yes")
        name = ""
        while not name:
            name = _typed("Your name: ", deadline)
        comment = _typed("Comment: ", deadline)
    except TimeoutError:
        click.echo("")
        return None
    return Approval(approve=approve, by=name[:200], comment=comment[:1000], at=datetime.now(UTC))


def _typed(question: str, deadline: datetime) -> str:
    """A line of the terminal, which hands over one at a time: nothing lies in a buffer that is not waited for."""
    click.echo(question, nl=False)
    if not select.select([sys.stdin], [], [], max(0.0, _left(deadline)))[0]:
        raise TimeoutError
    if not (line := sys.stdin.readline()):
        raise click.Abort  # the terminal is gone: the question stays as it was, for the next run
    return line.strip()


def description(night: Night, candidate: str, exam: Exam) -> str:
    """What a person is shown."""
    champion = f"champion {night.champion_id[:12]}" if night.champion_id else "what policies start from"
    before, gain, level = exam.champion, exam.gain, exam.level
    lines = (
        f"**{night.run}**: the candidate {candidate[:12]} passed its exam against {champion}.",
        f"- {exam.heldout}, {exam.items} items: accuracy {exam.candidate.text()}",
        f"- before: {before.text() if before else 'none'}",
        f"- gain {gain.text()}: {gain.wins} items won, {gain.losses} lost, p = {gain.p_value:.3g}" if gain else "",
        f"- with a grey picture {exam.blind:.3f}" if exam.blind is not None else "",
        f"- with another patient's picture {exam.swapped:.3f}" if exam.swapped is not None else "",
        f"- {level.text(exam.heldout)}" if level else "",
        *_slices(exam),
    )
    return "\n".join(filter(None, lines))


def _slices(exam: Exam) -> list[str]:
    """The one that may have fallen most, and those that nothing is known of."""
    told = [one for one in exam.slices if one.most is not None]
    nearest = max(told, key=lambda one: one.most or 0.0, default=None)
    few = [f"- {one.text()}" for one in exam.slices if one.most is None]
    return ([f"- nearest to a fall: {nearest.text()}"] if nearest else []) + few


def _has_server() -> bool:
    """One that stays: the embedded server ends with this process, and nobody sees its forms."""
    return bool(get_current_settings().api.url)


def _has_terminal() -> bool:
    return sys.stdin.isatty()


def _nobody(why: str) -> Approval:
    return Approval(approve=False, comment=why, at=datetime.now(UTC))


def _left(deadline: datetime) -> float:
    return (deadline - datetime.now(UTC)).total_seconds()


def _key(desk: ApprovalDesk) -> str:
    return f"promote-{desk.question[:16]}"
