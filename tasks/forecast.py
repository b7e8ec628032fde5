"""Forecast: what a night would buy if it began now. Nothing is bought, and no night is begun."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from medgr2.infra.journal import Journal
from medgr2.infra.workspace import Workspace
from medgr2.schemas.cells import Cell
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.reports import Plan
from medgr2.tasks import appraise, generate, score
from medgr2.tasks.night import foresee
from medgr2.tasks.stage import StageRequest, plan
from medgr2.tasks.waves import first_wave


class Forecast(BaseModel):
    """Exact for what is held now; images that the night would take in first are not in it."""

    model_config = ConfigDict(frozen=True)

    run: str
    images: int
    generate: Plan
    calls_at_most: int
    """With every repair; a budget may stop it sooner."""
    unsupported: dict[str, int]
    judge: tuple[Plan, ...]
    """For the drafts that are there."""

    def lines(self) -> list[str]:
        found = [
            f"{self.run}: {self.images} images",
            self.generate.line(),
            f"generate: at most {self.calls_at_most} calls",
            *(plan.line() for plan in self.judge),
        ]
        if without := sum(self.unsupported.values()):
            found.append(f"generate: {without} questions are not asked: nothing known supports them")
        if self.generate.new:
            found.append(f"judging: the drafts of {self.generate.new} new cells besides")
        return found


def forecast(workspace: Workspace, parameters: RefreshParameters) -> Forecast:
    night, images = foresee(workspace, parameters)
    how = parameters.generate
    request, wanted = generate.asked_for(workspace, how, images, model=night.generator, run=night.run)
    upto = first_wave(how.target).upto
    asked = _plan(workspace, request, wanted.cells[:upto])
    items = generate.held_drafts(workspace, how, request, wanted, upto)
    exams = sorted(
        {
            item.item_id: item
            for item in appraise.candidates(workspace, night, items, parameters.score.canaries).measured
        }.items()
    )
    judge = tuple(
        _plan(workspace, request, cells)
        for _, request, cells in score.looks(
            exams,
            parameters.score,
            scorer=night.scorer,
            reward=night.reward,
            run=night.run,
            workspace=workspace,
            verifier=night.verifier,
        )
    )
    return Forecast(
        run=night.run,
        images=len(images),
        generate=asked,
        calls_at_most=(asked.new + asked.retried) * request.calls,
        unsupported=dict(wanted.unsupported),
        judge=judge,
    )


def _plan(workspace: Workspace, request: StageRequest, cells: Iterable[Cell]) -> Plan:
    return plan(request.settled(workspace.settings), cells, Journal(workspace.store, request.recipe.stage))
