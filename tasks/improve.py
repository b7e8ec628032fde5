"""Improve: train a policy and a generator on a version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medgr2.infra import versions
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.models.registry import Registry, Source
from medgr2.schemas.errors import NightStoppedError
from medgr2.schemas.parameters import EMBEDDED, SEED, TrainParameters
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.lessons import read_lessons, source_of
from medgr2.tasks.night import Night
from medgr2.tasks.stage import Announce, run_and_record
from medgr2.tasks.train import WORKER, TrainPlan, registration, train_cell, train_recipe
from medgr2.tasks.training_cell import training_request
from medgr2.tasks.training_plans import lessons_of, practice_of, writing_of


@dataclass(frozen=True)
class Taught:
    """The candidate, and what of its training was left out and why."""

    model_id: str
    notes: tuple[str, ...] = ()


def train_policy(
    workspace: Workspace, night: Night, version: DatasetVersion, how: TrainParameters, seed: int, announce: Announce
) -> Taught:
    """SFT from the start of policies on the version and the human seed, then GRPO on the version's difficulty band.

    Practice that can teach nothing is left out, and the policy stays as SFT left it; one without either is none.
    """
    sources = (source_of(version), source_of(versions.resolve(workspace.lake, SEED)))
    taught, notes = "", []
    for plan in (lessons_of(how.settings, seed), practice_of(how.settings, seed, night.reward or "")):
        if plan is None:
            continue
        model_id, why = _train(workspace, plan, taught or night.start, sources, night, announce)
        if model_id is None and (plan.sft is not None or not taught):
            raise NightStoppedError(
                f"no policy could be trained on {version.ref} and the seed, by {plan.method}: {why}",
                where=f"run {night.run}",
                kept="the version; nothing was promoted",
                next_command="medgr2 query \"select reason, detail from outcomes where stage = 'train'\"",
            )
        if model_id is None:
            notes.append(f"no GRPO, the policy is as SFT left it: {why}")
        taught = model_id or taught
    return Taught(taught, tuple(notes))


def why_not_taught(night: Night, settings: Settings) -> str:
    """Why this night's generator is not trained here; nothing where it is."""
    if night.served:
        return f"{night.generator} is served by somebody else"
    if settings.models.base != EMBEDDED:
        # Taught in other words than it is asked in, it would unlearn what it is asked for.
        return "it is asked in a style of large models, and only the embedded writer's own words are taught"
    return ""


def train_generator(
    workspace: Workspace, night: Night, version: DatasetVersion, how: TrainParameters, seed: int, announce: Announce
) -> str | None:
    """Rejection-sampling fine-tune on what passed: always from the base, with human questions mixed in."""
    sources = (source_of(version), source_of(versions.resolve(workspace.lake, SEED)))
    return _train(workspace, writing_of(how.settings, seed), night.base_id, sources, night, announce)[0]


def _train(
    workspace: Workspace, plan: TrainPlan, parent_id: str, sources: Sequence[Source], night: Night, announce: Announce
) -> tuple[str | None, str]:
    """model_id of the trained model, or None and why the data did not allow it."""
    # A version that cannot be read whole is told with the reason: in a worker it would be one more cell that failed.
    read_lessons(workspace.lake, sources)
    registry = Registry(workspace.store, workspace.lake)
    parent = registry.model(parent_id)
    recipe = train_recipe(plan, parent["artifact"])
    cell = train_cell(recipe, workspace.lake, sources, workspace.settings.models.device)
    request = training_request(recipe, WORKER, night.run, workspace.settings.training.processes)
    outcome = run_and_record(request, [cell], workspace, announce).outcomes[cell.key]
    if outcome.verdict is not Verdict.ACCEPTED:
        return None, outcome.detail or ", ".join(outcome.reasons)
    return registry.register(registration(cell, recipe, outcome, parent=parent, metrics={}, run=night.run)), ""
