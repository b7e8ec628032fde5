"""Promotion: candidate and champion sit the same held-out exam; only a better one takes the place."""

from __future__ import annotations

from typing import Any

from medgr2.infra import versions
from medgr2.infra.workspace import Workspace
from medgr2.models.measures import Summary
from medgr2.models.promotion_gate import decide
from medgr2.models.registry import Registry
from medgr2.schemas.cycle_reports import Accuracy, Exam
from medgr2.schemas.errors import ConflictError
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import evaluate
from medgr2.tasks.evaluate import Condition
from medgr2.tasks.lessons import source_of
from medgr2.tasks.night import Night
from medgr2.tasks.stage import Announce, StageRequest, run_and_record

CONDITIONS = (Condition.IMAGE, Condition.BLANK, Condition.SWAPPED)


def examine(workspace: Workspace, model_id: str, run: str, announce: Announce) -> tuple[Summary, list[dict[str, Any]]]:
    """The held-out exam, with its controls. Answers given before are not asked for again."""
    lake = workspace.lake
    registry = Registry(workspace.store, lake)
    heldout = versions.resolve(lake, "heldout")
    items = evaluate.read_heldout(lake, heldout)
    model = registry.model(model_id)
    if taught := registry.taught(model_id):
        evaluate.check_disjoint(lake, items, taught)
    recipe = evaluate.evaluate_recipe(model["artifact"])
    cells = evaluate.evaluate_cells(recipe, items, CONDITIONS)
    request = StageRequest(recipe=recipe, worker=evaluate.WORKER, batch_size=32, run=run, failure_limit=0.0)
    result = run_and_record(request, [cell for cell, _, _ in cells], workspace, announce)
    rows = evaluate.collect(cells, result.outcomes, model_id=model_id, heldout=heldout, run=run)
    lake.append_new("evals", rows, key="eval_id")
    registry.record_use(model_id, source_of(heldout), "evaluate", run)
    return evaluate.summary(rows), rows


def sit(workspace: Workspace, night: Night, candidate_id: str, announce: Announce) -> Exam:
    """Candidate and champion answer the same items; the alias moves only from the champion the night began with."""
    registry = Registry(workspace.store, workspace.lake)
    mine, my_rows = examine(workspace, candidate_id, night.run, announce)
    # Before the first promotion the base is what a candidate has to beat.
    theirs, their_rows = examine(workspace, night.champion_id or night.base_id, night.run, announce)
    decision = decide(
        evaluate.answers(my_rows, Condition.IMAGE),
        evaluate.answers(their_rows, Condition.IMAGE),
        blank=evaluate.answers(my_rows, Condition.BLANK),
    )
    decided_before = any(move.model_id == candidate_id for move in registry.history(Role.POLICY))
    promoted, reasons = decision.promote, decision.reasons
    if promoted and not decided_before:
        reason = f"{night.run}: {reasons[0]}"
        try:
            registry.promote(Role.POLICY, candidate_id, reason=reason, expected_current=night.champion_id)
        except ConflictError as moved:
            # The night keeps the champion it began with, so trying again would end the same way, for ever.
            promoted, reasons = False, (*reasons, moved.what)
    return Exam(
        heldout=versions.resolve(workspace.lake, "heldout").ref,
        items=mine.n,
        candidate=Accuracy(value=mine.macro, low=mine.macro_low, high=mine.macro_high),
        champion=Accuracy(value=theirs.macro, low=theirs.macro_low, high=theirs.macro_high),
        blind=mine.blank,
        swapped=mine.swapped,
        decision="promoted" if promoted else "champion kept",
        reasons=reasons,
    )


def use_generator(workspace: Workspace, night: Night, generator_id: str) -> None:
    """The next night writes with it. A generator has no exam of its own: its drafts are judged one by one."""
    registry = Registry(workspace.store, workspace.lake)
    if any(move.model_id == generator_id for move in registry.history(Role.GENERATOR)):
        return
    current = registry.champion(Role.GENERATOR)
    registry.promote(Role.GENERATOR, generator_id, reason=f"{night.run}: retrained", expected_current=current)
