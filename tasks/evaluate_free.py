"""Evaluation without options: a benchmark's questions as its authors ask them, and again without the picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from medgr2.infra.worker import Trouble
from medgr2.infra.workspace import Workspace
from medgr2.models import prompts
from medgr2.models.engines.opening import engine_parameters, engine_resources
from medgr2.models.free_answers import exact, parse_free, token_overlap
from medgr2.models.registry import Registry, Source
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks import evaluate
from medgr2.tasks.evaluate import Condition, Others, eval_id
from medgr2.tasks.evaluate_worker import EvaluateWorker
from medgr2.tasks.examination import BATCH
from medgr2.tasks.remembered import check_disjoint, remembered
from medgr2.tasks.stage import Announce, StageRequest, run_and_record

STAGE = "evaluate-free"
CODE = "1"
WORKER = "medgr2.tasks.evaluate_free:FreeWorker"
PROMPT = "answer.free.v1"
LONGEST = 64
Rows = Sequence[Mapping[str, Any]]


def free_recipe(artifact: str, *, longest: int = LONGEST, engine: Mapping[str, JsonValue] | None = None) -> Recipe:
    return Recipe(
        stage=STAGE,
        code=CODE,
        model=artifact,
        prompt=prompts.load_prompt(PROMPT),
        parameters={"longest": longest, "temperature": 0.0, **(engine or {})},
    )


class FreeWorker(EvaluateWorker):
    """Greedy answers in the model's own words."""

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        from medgr2.models.engines.seam import Request
        from medgr2.models.engines.whole import ask_all

        requests = [
            Request(
                self._picture(cell),
                self._template.format(question=cell.inputs["question"]),
                temperature=0.0,
                max_new_tokens=self._longest,
                sightless=not cell.image,
            )
            for cell in cells
        ]
        for cell, replies in zip(cells, ask_all(self._engine, requests), strict=True):
            if isinstance(replies, Trouble):
                yield Outcome.failed(cell, replies.reason)
                continue
            (reply,) = replies
            answer = parse_free(reply.text) if reply.finished else None
            yield Outcome.accepted(cell, {"answer": answer, "reply": reply.text})


def examine_free(
    workspace: Workspace,
    model: Mapping[str, Any],
    questions: Rows,
    source: Source,
    *,
    run: str,
    announce: Announce,
    longest: int | None = None,
) -> list[dict[str, Any]]:
    """Rows of `evals`. What failed is wrong, as far as the failure limit of the settings goes."""
    registry, model_id = Registry(workspace.store, workspace.lake), str(model["model_id"])
    check_disjoint(questions, remembered(workspace, model_id))
    settings, others = workspace.settings, Others(questions)
    engine = engine_parameters(settings)
    how = free_recipe(model["artifact"], longest=longest or LONGEST, engine=engine)
    cells = [
        (
            how.cell(
                image=others.shown(row, condition),
                parents=(row["question_id"],),
                inputs={"question": row["question"], "blank": condition is Condition.BLANK},
            ),
            row,
            condition,
        )
        for condition in Condition
        for row in questions
    ]
    request = StageRequest(recipe=how, worker=WORKER, batch_size=BATCH, run=run, resources=engine_resources(settings))
    outcomes = run_and_record(request, [cell for cell, _, _ in cells], workspace, announce).outcomes
    asked = {"asked": evaluate.asked(how, PROMPT), "own": how == free_recipe(model["artifact"], engine=engine)}
    rows = [
        _row(cell, row, condition, outcomes[cell.key], model_id=model_id, source=source, run=run) | asked
        for cell, row, condition in cells
    ]
    workspace.lake.append_new("evals", rows, key="eval_id")
    registry.record_use(model_id, source, "evaluate", run)
    return rows


def _row(
    cell: Cell,
    question: Mapping[str, Any],
    condition: Condition,
    outcome: Outcome,
    *,
    model_id: str,
    source: Source,
    run: str,
) -> dict[str, Any]:
    value = outcome.value if outcome.verdict is Verdict.ACCEPTED and outcome.value else {"answer": None, "reply": None}
    failed = None if outcome.verdict is Verdict.ACCEPTED else ", ".join(outcome.reasons)
    f1, recall = token_overlap(value["answer"], question["answer"])
    return {
        "eval_id": eval_id(model_id, source.digest, cell, failed),
        "model_id": model_id, "dataset": source.dataset, "version": source.version, "digest": source.digest,
        "item_id": question["question_id"], "image_id": question["image_id"], "modality": question["modality"],
        "question_type": question["kind"], "condition": condition.value, "answer": value["answer"],
        "key": question["answer"], "correct": exact(value["answer"], question["answer"]),
        "parsed": value["answer"] is not None, "cell": cell.key, "run": run, "evaluated_at": datetime.now(UTC),
        "reply": value["reply"], "failed": failed, "closed": question["closed"], "token_f1": f1, "token_recall": recall,
    }  # fmt: skip
