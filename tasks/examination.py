"""Examination: a registered model answers a held-out version, with its controls; what was answered before is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medgr2.infra.workspace import Workspace
from medgr2.models.answer_forms import Answering, answering_of
from medgr2.models.engines.opening import engine_parameters, engine_resources
from medgr2.models.model_ref import base_model, policy_model
from medgr2.models.registry import Registry
from medgr2.schemas.errors import UsageError
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import evaluate
from medgr2.tasks.evaluate import Condition
from medgr2.tasks.lessons import source_of
from medgr2.tasks.night import register_given
from medgr2.tasks.remembered import Remembered, check_disjoint, remembered
from medgr2.tasks.stage import Announce, StageRequest, run_and_record

CONDITIONS = (Condition.IMAGE, Condition.BLANK, Condition.SWAPPED)
START = "start"
BATCH = 128
"""Prompts of about the same length are read together: the more there are to choose from, the less is padding."""


def find_model(workspace: Workspace, named: str) -> dict[str, Any]:
    """`base`, `start`, the champion of a role, or the beginning of an id."""
    registry = Registry(workspace.store, workspace.lake)
    if named == Role.BASE:
        return registry.model(register_given(registry, base_model(workspace.settings)))
    if named == START:
        return registry.model(register_given(registry, policy_model(workspace.settings)))
    if named == Role.REWARD:
        raise UsageError(
            "a reward judges items and answers none, so it sits no exam",
            next_command="medgr2 ablate reward  measures rewards",
        )
    if named in [role.value for role in Role]:
        champion = registry.champion(Role(named))
        if champion is None:
            raise UsageError(
                f"the {named} has no champion yet; the base serves in its place", next_command="medgr2 evaluate start"
            )
        return registry.model(champion)
    return registry.find(named)


def examine(
    workspace: Workspace,
    model: Mapping[str, Any],
    heldout: DatasetVersion,
    *,
    run: str,
    announce: Announce,
    samples: int = 0,
    sampled_items: int | None = None,
    longest: int | None = None,
    answering: Answering | None = None,
    conditions: Sequence[Condition] = CONDITIONS,
    taught: Remembered | None = None,
    count_failed: bool = False,
) -> list[dict[str, Any]]:
    """Rows of `evals`, also when they were there before. `taught` is read where it is not given. With `count_failed`,
    answers that failed are wrong, as far as the failure limit of the settings goes; without, one stops the exam."""
    lake, model_id = workspace.lake, str(model["model_id"])
    registry = Registry(workspace.store, lake)
    items = evaluate.read_heldout(lake, heldout)
    check_disjoint(items, taught or remembered(workspace, model_id))
    own, engine = answering_of(model["metrics"]), engine_parameters(workspace.settings)
    answering = answering or own
    how = evaluate.evaluate_recipe(
        model["artifact"],
        longest=longest,
        samples=samples,
        sampled_items=sampled_items,
        answering=answering,
        engine=engine,
    )
    as_the_gate_asks = evaluate.evaluate_recipe(model["artifact"], answering=own, engine=engine)
    cells = evaluate.evaluate_cells(how, items, conditions)
    request = StageRequest(
        recipe=how,
        worker=evaluate.WORKER,
        batch_size=BATCH,
        run=run,
        failure_limit=None if count_failed else 0.0,
        resources=engine_resources(workspace.settings),
    )
    result = run_and_record(request, [cell for cell, _, _ in cells], workspace, announce)
    rows = evaluate.collect(
        cells,
        result.outcomes,
        model_id=model_id,
        heldout=heldout,
        run=run,
        asked=evaluate.asked(how, answering.prompt, answering.style),
        own=how == as_the_gate_asks,
        count_failed=count_failed,
    )
    lake.append_new("evals", rows, key="eval_id")
    registry.record_use(model_id, source_of(heldout), "evaluate", run)
    return rows
