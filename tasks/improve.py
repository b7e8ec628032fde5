"""Improve: train a candidate on a version, and let the held-out exam decide whether it replaces the champion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medgr2.infra import versions
from medgr2.infra.workspace import Workspace
from medgr2.models.grpo import GrpoSettings
from medgr2.models.measures import Summary, decide
from medgr2.models.registry import Registry, Source
from medgr2.models.sft import SftSettings
from medgr2.schemas.cycle_reports import Accuracy, Exam
from medgr2.schemas.errors import ConflictError, NightStoppedError
from medgr2.schemas.parameters import TrainParameters
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import Role, Verdict
from medgr2.tasks import evaluate
from medgr2.tasks.evaluate import Condition
from medgr2.tasks.lessons import source_of
from medgr2.tasks.night import Night
from medgr2.tasks.stage import Announce, StageRequest, run_and_record
from medgr2.tasks.train import WORKER, TrainPlan, registration, train_cell, train_recipe
from medgr2.tasks.training_cell import training_request

CONDITIONS = (Condition.IMAGE, Condition.BLANK, Condition.SWAPPED)


def train_policy(
    workspace: Workspace, night: Night, version: DatasetVersion, how: TrainParameters, seed: int, announce: Announce
) -> str:
    """SFT from the base on the version and the human seed, then GRPO on the version's difficulty band."""
    human = source_of(versions.resolve(workspace.lake, "seed"))
    sft = SftSettings(steps=how.sft_steps, batch=how.sft_batch, learning_rate=how.sft_learning_rate, seed=seed)
    plan = TrainPlan(role=Role.POLICY, sft=sft)
    taught = _train(workspace, plan, night.base_id, (source_of(version), human), night, announce)
    if taught is None:
        raise NightStoppedError(
            f"no policy could be trained on {version.ref} and the seed",
            where=f"run {night.run}",
            kept="the version; nothing was promoted",
            next_command="medgr2 query \"select reason, detail from outcomes where stage = 'train'\"",
        )
    if how.grpo_steps == 0:
        return taught
    grpo = GrpoSettings(
        steps=how.grpo_steps,
        prompts=how.grpo_prompts,
        learning_rate=how.grpo_learning_rate,
        reward=how.reward,
        seed=seed,
    )
    practice = TrainPlan(role=Role.POLICY, grpo=grpo)
    practised = _train(workspace, practice, taught, (source_of(version), human), night, announce)
    return practised or taught


def train_generator(
    workspace: Workspace, night: Night, version: DatasetVersion, how: TrainParameters, seed: int, announce: Announce
) -> str | None:
    """Rejection-sampling fine-tune on what passed: always from the base, with human questions mixed in."""
    human = source_of(versions.resolve(workspace.lake, "seed"))
    sft = SftSettings(
        steps=how.generator_steps, batch=how.sft_batch, learning_rate=how.generator_learning_rate, seed=seed
    )
    plan = TrainPlan(role=Role.GENERATOR, sft=sft)
    return _train(workspace, plan, night.base_id, (source_of(version), human), night, announce)


def _train(
    workspace: Workspace, plan: TrainPlan, parent_id: str, sources: Sequence[Source], night: Night, announce: Announce
) -> str | None:
    """model_id of the trained model, or None when the data did not allow it; the reason is in `outcomes`."""
    registry = Registry(workspace.store, workspace.lake)
    parent = registry.model(parent_id)
    recipe = train_recipe(plan, parent["artifact"])
    cell = train_cell(recipe, workspace.lake, sources)
    request = training_request(recipe, WORKER, night.run)
    outcome = run_and_record(request, [cell], workspace, announce).outcomes[cell.key]
    if outcome.verdict is not Verdict.ACCEPTED:
        return None
    return registry.register(registration(cell, recipe, outcome, parent=parent, metrics={}, run=night.run))


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
