"""Promotion: candidate and champion sit the same held-out exam; only a better one takes the place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medgr2.infra import versions
from medgr2.infra.workspace import Workspace
from medgr2.models.alpha_ledger import AlphaLedger
from medgr2.models.measures import Summary
from medgr2.models.promotion_gate import Rule, decide
from medgr2.models.registry import Registry
from medgr2.schemas.approvals import Approval
from medgr2.schemas.cycle_reports import Exam
from medgr2.schemas.errors import ConflictError
from medgr2.schemas.parameters import HELDOUT
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import evaluate, examination
from medgr2.tasks.evaluate import Condition
from medgr2.tasks.lessons import left_of, source_of
from medgr2.tasks.night import Night
from medgr2.tasks.stage import Announce

PASSED, PROMOTED, KEPT = "passed", "promoted", "champion kept"


def examine(
    workspace: Workspace, model_id: str, heldout: DatasetVersion, run: str, announce: Announce
) -> tuple[Summary, list[dict[str, Any]]]:
    """The held-out exam, with its controls. Answers given before are not asked for again."""
    model = Registry(workspace.store, workspace.lake).model(model_id)
    rows = examination.examine(workspace, model, heldout, run=run, announce=announce)
    return evaluate.summary(rows), rows


def sit(workspace: Workspace, night: Night, candidate_id: str, announce: Announce, rule: Rule | None = None) -> Exam:
    """Candidate and champion answer the same items; one look of the held-out version's allowance is spent on it."""
    rule, champion_id = rule or Rule(), night.champion_id or night.start
    heldout = versions.resolve(workspace.lake, HELDOUT)
    mine, my_rows = examine(workspace, candidate_id, heldout, night.run, announce)
    # Before the first promotion the model that policies start from is what a candidate has to beat.
    theirs, their_rows = examine(workspace, champion_id, heldout, night.run, announce)
    # Spent before anybody knows what it shows: a night that is killed here finds its own look again.
    look = ledger(workspace).look(
        Role.POLICY,
        source_of(heldout),
        candidate=candidate_id,
        champion=champion_id,
        alpha=rule.alpha,
        run=night.run,
    )
    decision = decide(
        evaluate.answers(my_rows, Condition.IMAGE),
        evaluate.answers(their_rows, Condition.IMAGE),
        blank=evaluate.answers(my_rows, Condition.BLANK),
        rule=rule,
        level=look.level,
    )
    return Exam(
        heldout=heldout.ref,
        items=mine.n,
        candidate=mine.macro,
        champion=theirs.macro,
        blind=mine.blank,
        swapped=mine.swapped,
        decision=PASSED if decision.promote else KEPT,
        reasons=decision.reasons,
        gain=decision.gain,
        level=look.told(),
        slices=decision.slices,
    )


def open_question(workspace: Workspace, candidate_id: str, exam: Exam) -> bool:
    """Whether the candidate passed and nobody has moved it yet."""
    moves = Registry(workspace.store, workspace.lake).history(Role.POLICY)
    return exam.decision == PASSED and not any(move.model_id == candidate_id for move in moves)


def unasked(exam: Exam, later: str) -> Exam:
    """It stays passed: whoever runs the same loop where somebody can be asked is asked still."""
    why = f"the champion is kept for now: nobody could be asked, without a terminal or a Prefect server; {later}"
    return exam.model_copy(update={"reasons": (*exam.reasons, why)})


def settle(workspace: Workspace, night: Night, candidate_id: str, exam: Exam, approval: Approval | None = None) -> Exam:
    """What follows from the exam. The alias moves only from the champion that the night began with."""
    if exam.decision != PASSED:
        return exam
    registry, said = Registry(workspace.store, workspace.lake), () if approval is None else (approval.text(),)
    if approval is not None and not approval.approve:
        return exam.model_copy(update={"decision": KEPT, "reasons": (*exam.reasons, *said)})
    kept: Sequence[str] = ()
    own = [m for m in registry.history(Role.POLICY) if candidate_id in (m.model_id, m.replaced)]
    if own and own[-1].action == "rollback" and own[-1].replaced == candidate_id:
        # Lived again, the night says what holds now.
        kept = ("it was promoted, and somebody has taken it back since",)
    if open_question(workspace, candidate_id, exam):
        reason = "; ".join((f"{night.run}: {exam.reasons[0]}", *said))
        try:
            registry.promote(Role.POLICY, candidate_id, reason=reason, expected_current=night.champion_id)
        except ConflictError as moved:
            # The night keeps the champion it began with, so trying again would end the same way, for ever.
            kept = (moved.what,)
    return exam.model_copy(update={"decision": KEPT if kept else PROMOTED, "reasons": (*exam.reasons, *said, *kept)})


def ledger(workspace: Workspace) -> AlphaLedger:
    # A version that was erased in part was looked at all the same.
    return AlphaLedger(workspace.store, lambda source: left_of(workspace.lake, source))


def use_generator(workspace: Workspace, night: Night, generator_id: str) -> None:
    """The next night writes with it. A generator has no exam of its own: its drafts are judged one by one."""
    registry = Registry(workspace.store, workspace.lake)
    if any(move.model_id == generator_id for move in registry.history(Role.GENERATOR)):
        return
    current = registry.champion(Role.GENERATOR)
    writes = str(registry.model(current)["artifact"]) if current else night.base
    if writes != night.generator:
        return  # another night has moved it since: a night that is lived again does not take that back
    registry.promote(Role.GENERATOR, generator_id, reason=f"{night.run}: retrained", expected_current=current)
