"""Improve: train a policy and a generator on a version."""

from __future__ import annotations

from collections.abc import Sequence

from medgr2.infra import versions
from medgr2.infra.workspace import Workspace
from medgr2.models.grpo import GrpoSettings
from medgr2.models.registry import Registry, Source
from medgr2.models.sft import SftSettings
from medgr2.schemas.errors import NightStoppedError
from medgr2.schemas.parameters import TrainParameters
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import Role, Verdict
from medgr2.tasks.lessons import source_of
from medgr2.tasks.night import Night
from medgr2.tasks.stage import Announce, run_and_record
from medgr2.tasks.train import WORKER, TrainPlan, registration, train_cell, train_recipe
from medgr2.tasks.training_cell import training_request


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
