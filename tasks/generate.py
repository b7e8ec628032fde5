"""Generate: every image, question type and sample is a cell; its result is a draft or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from medgr2.infra.journal import Journal
from medgr2.infra.workspace import Workspace
from medgr2.models.diversity import diversity
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.reports import GenerateReport
from medgr2.schemas.vocabulary import Origin, Verdict
from medgr2.tasks.allowance import allowance
from medgr2.tasks.asking import Wanted, wanted
from medgr2.tasks.drafting import recipe, request_of, style_of
from medgr2.tasks.outdated import renew_contexts
from medgr2.tasks.stage import Announce, StageRequest, run_and_record


def collect(
    cells: Iterable[Cell],
    outcomes: Mapping[str, Outcome],
    recipe: Recipe,
    run: str,
    *,
    prompt: str,
    contexts: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Rows of `items` by id, from the drafts. Cells that wrote the same item share the first one's row."""
    rows: dict[str, dict[str, Any]] = {}
    now = datetime.now(UTC)
    for cell in cells:
        outcome = outcomes[cell.key]
        if outcome.verdict is not Verdict.ACCEPTED:
            continue
        item = Item.model_validate(
            {**(outcome.value or {}), "image_id": cell.image, "question_type": cell.inputs["question_type"]}
        )
        rows.setdefault(
            item.item_id,
            {
                **item.model_dump(mode="json"),
                "item_id": item.item_id,
                "origin": Origin.GENERATED.value,
                "generator": recipe.model,
                "prompt": prompt,
                "recipe": recipe.digest,
                "cell": cell.key,
                "run": run,
                "added_at": now,
                "context": contexts[cell.image],
            },
        )
    return rows


def asked_for(
    workspace: Workspace, parameters: GenerateParameters, images: Sequence[str], *, model: str, run: str
) -> tuple[StageRequest, Wanted]:
    """All that a night could ask, and how. Nothing is spent."""
    how, style = recipe(model, parameters, workspace.settings), style_of(parameters, workspace.settings)
    return request_of(how, workspace.settings, run), wanted(workspace.lake, how, style, parameters, images)


def generate(
    workspace: Workspace,
    parameters: GenerateParameters,
    images: Sequence[str],
    *,
    model: str,
    run: str,
    announce: Announce,
    upto: int | None = None,
    since: int | None = None,
) -> GenerateReport:
    """Ask for drafts about these images, or for the first `upto` of them, and keep the well-formed ones as items.
    `since` is when the night began, which its budget is for."""
    request, all_wanted = asked_for(workspace, parameters, images, model=model, run=run)
    asked, budget = all_wanted.cells[:upto], parameters.budget
    if budget is not None and since is not None:
        budget = allowance(workspace.lake, budget, asked, stage=request.recipe.stage, run=run)
    result = run_and_record(request, asked, workspace, announce, budget=budget, since=since)
    cells = result.cells[: result.asked]
    rows = _rows(cells, result.outcomes, request, all_wanted, parameters, workspace)
    workspace.lake.append_new("items", list(rows.values()), key="item_id")
    renew_contexts(workspace.lake, {item_id: row["context"] for item_id, row in rows.items()})
    return GenerateReport(
        **{name: getattr(result.report, name) for name in type(result.report).model_fields},
        asked=result.asked,
        possible=len(all_wanted.cells),
        unsupported=dict(all_wanted.unsupported),
        diversity=diversity(
            map(item_of, rows.values()),
            all_wanted.modality,
            types=len(parameters.question_types),
            modalities=len(set(all_wanted.modality.values())),
        ),
    )


def drafted(
    workspace: Workspace,
    parameters: GenerateParameters,
    images: Sequence[str],
    *,
    model: str,
    run: str,
    asked: int | None = None,
) -> list[Item]:
    """The items that `generate` made of the same images, or of the first `asked` cells, in the order of their ids.
    Nothing is generated."""
    request, all_wanted = asked_for(workspace, parameters, images, model=model, run=run)
    cells = all_wanted.cells[:asked]
    outcomes = Journal(workspace.store, request.recipe.stage).outcomes([cell.key for cell in cells])
    if missing := sum(cell.key not in outcomes for cell in cells):
        raise DataError(
            f"{missing} of {len(cells)} drafts of {run} have not been asked for",
            where="journal/generate",
            kept="every finished draft",
            next_command="the same command again",
        )
    rows = _rows(cells, outcomes, request, all_wanted, parameters, workspace)
    return [item_of(rows[item_id]) for item_id in sorted(rows)]


def held_drafts(
    workspace: Workspace, parameters: GenerateParameters, request: StageRequest, all_wanted: Wanted, upto: int | None
) -> list[Item]:
    """The items that are there already of what `asked_for` names."""
    cells = all_wanted.cells[:upto]
    outcomes = Journal(workspace.store, request.recipe.stage).outcomes([cell.key for cell in cells])
    there = [cell for cell in cells if cell.key in outcomes]
    rows = _rows(there, outcomes, request, all_wanted, parameters, workspace)
    return [item_of(rows[item_id]) for item_id in sorted(rows)]


def _rows(
    cells: Iterable[Cell],
    outcomes: Mapping[str, Outcome],
    request: StageRequest,
    all_wanted: Wanted,
    parameters: GenerateParameters,
    workspace: Workspace,
) -> dict[str, dict[str, Any]]:
    prompt = style_of(parameters, workspace.settings).prompt
    return collect(cells, outcomes, request.recipe, request.run, prompt=prompt, contexts=all_wanted.contexts)


def item_of(row: Mapping[str, Any]) -> Item:
    """The item in a row of the table `items`."""
    return Item.model_validate({name: row[name] for name in Item.model_fields})
