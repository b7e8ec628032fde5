"""Training as a stage of one cell: the same recipe on the same data is found in the journal, and nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medgr2.infra.images import ImageStore
from medgr2.infra.lake import Lake
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.models import prompts
from medgr2.models.answer_forms import METRIC, Answering
from medgr2.models.grpo import BAND, GrpoSettings, train_grpo
from medgr2.models.model_ref import materialise
from medgr2.models.registry import Registration, Source
from medgr2.models.sft import SftSettings, train_sft
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import ConflictError, DataError, UsageError
from medgr2.schemas.presets import Weighting
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.exercises import examples, rehearsals
from medgr2.tasks.lessons import (
    Judgement,
    Lesson,
    judgements,
    judgements_digest,
    published_at,
    read_lessons,
)
from medgr2.tasks.practice_grades import claimed, folds_digest, graded
from medgr2.tasks.training_cell import Training, train_once

STAGE = "train"
CODE = "4"
WORKER = "medgr2.tasks.train:TrainWorker"


class TrainPlan(BaseModel):
    """How to train: together with the parent's weights, the prompt and the data, everything that shapes the result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal[Role.POLICY, Role.GENERATOR]
    sft: SftSettings | None = None
    grpo: GrpoSettings | None = None
    human_share: float = Field(default=0.3, ge=0, le=1, description="Share of SFT visits to questions people wrote.")
    band: tuple[float, float] = Field(default=BAND, description="GRPO takes items whose pass rate lies between.")
    answering: Answering = Field(default=Answering(), description="How a policy is asked, and how it replies.")
    weighting: Weighting = Field(
        default="equal", description="How often SFT visits a generated item: all alike, or the surer the more often."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.sft is None) == (self.grpo is None):
            raise ValueError("give settings of exactly one method: sft or grpo")
        if self.role is Role.GENERATOR and self.grpo is not None:
            raise ValueError("a generator is trained with sft: its replies have no key to be right by")
        if self.role is Role.GENERATOR and self.human_share < 0.2:
            raise ValueError("a generator needs a human_share of 0.2 or more, or it drifts towards itself")
        if self.grpo is not None and self.grpo.style != self.answering.style:
            raise ValueError("GRPO reads replies in the style that the policy is asked in")
        return self

    @property
    def weighs_judgements(self) -> bool:
        """Whether what was judged of the items shapes the result."""
        return self.grpo is not None or self.weighting == "p_valid"

    @property
    def method(self) -> Literal["sft", "grpo"]:
        return "sft" if self.sft is not None else "grpo"


def train_recipe(plan: TrainPlan, parent_artifact: str) -> Recipe:
    name = prompts.GENERATE_EMBEDDED if plan.role is Role.GENERATOR else plan.answering.prompt
    return Recipe(
        stage=STAGE,
        code=CODE,
        model=parent_artifact,
        prompt=prompts.load_prompt(name),
        parameters=plan.model_dump(mode="json"),
    )


def train_cell(recipe: Recipe, lake: Lake, sources: Sequence[Source], device: str = "cpu") -> Cell:
    """The one cell of this training. Where it reads scores, they are part of the key, by their digest; and where its
    replies are graded, the `device` of who grades them: the same reward says otherwise on another."""
    inputs: dict[str, Any] = {"sources": [source.model_dump() for source in sources]}
    plan = TrainPlan.model_validate(recipe.parameters)
    if plan.weighs_judgements:
        ids = [lesson.item_id for lesson in read_lessons(lake, sources)]
        inputs["judgements"] = judgements_digest(judgements(lake, ids, published_at(lake, sources)))
    if plan.grpo is not None and plan.grpo.grader:
        inputs |= {"folds": folds_digest(lake, read_lessons(lake, sources)), "grader_device": device}
    return recipe.cell(inputs=inputs)


def registration(
    cell: Cell, recipe: Recipe, outcome: Outcome, *, parent: dict[str, Any], metrics: dict[str, Any], run: str
) -> Registration:
    """The registry's entry for what a training cell made. `parent` is the registry's row of the model it began from."""
    plan = TrainPlan.model_validate(recipe.parameters)
    if outcome.value is None:
        raise UsageError(f"the training ended as {outcome.verdict}: {', '.join(outcome.reasons)}")
    if recipe.model != parent["artifact"]:
        raise UsageError("the parent given is not the model that the training began from")
    if plan.role is Role.GENERATOR and parent["role"] != Role.BASE:
        raise UsageError(f"a generator is always trained from the base, not from a {parent['role']}")
    return Registration(
        role=plan.role,
        artifact=outcome.value["artifact"],
        method=plan.method,
        parent=parent["model_id"],
        sources=tuple(Source.model_validate(source) for source in cell.inputs["sources"]),
        reward=_reward(plan.grpo, cell) if plan.grpo else "",
        code=recipe.code,
        recipe=recipe.digest,
        metrics={"training": outcome.value["metrics"], **_answering(plan), **metrics},
        run=run,
    )


def _reward(grpo: GrpoSettings, cell: Cell) -> str:
    """By what the policy was rewarded: the scheme, what was judged of the items, and who graded the replies."""
    return ":".join(filter(None, (grpo.reward, str(cell.inputs["judgements"]), grpo.grader)))


def _answering(plan: TrainPlan) -> dict[str, Any]:
    """Said only where it is not the base's own way."""
    told = plan.role is Role.POLICY and plan.answering != Answering()
    return {METRIC: plan.answering.model_dump()} if told else {}


class TrainWorker:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._recipe = recipe
        self._plan = TrainPlan.model_validate(recipe.parameters)
        self._settings = settings
        self._kept = {"checkpoint_every": settings.training.checkpoint_every}
        self._store = open_store(settings.storage)
        self._lake = Lake(settings.storage)
        self._images = ImageStore(self._store, settings.storage.cache_folder)

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        return (self._train(cell) for cell in cells)

    def _train(self, cell: Cell) -> Outcome:
        def prepare() -> Training:
            parent = materialise(self._recipe.model, self._settings).folder
            lessons = read_lessons(self._lake, self._sources(cell))
            for lesson in lessons:
                self._images.path(lesson.image_id)  # a damaged one can be restored: that is no verdict on the data
            return lambda out: self._taught(cell, parent, lessons, out)

        return train_once(cell, self._settings, self._store, prepare)

    @staticmethod
    def _sources(cell: Cell) -> list[Source]:
        return [Source.model_validate(source) for source in cell.inputs["sources"]]

    def _taught(self, cell: Cell, parent: Path, lessons: list[Lesson], out: Path) -> dict[str, Any]:
        plan, template = self._plan, self._recipe.prompt
        judged = self._judged(cell, lessons) if plan.weighs_judgements else None
        if plan.sft is not None:
            if plan.role is Role.GENERATOR and not any(lesson.human for lesson in lessons):
                raise DataError("a generator is never trained on its own items alone: no question by people is given")
            learned = examples(
                lessons,
                self._images,
                role=plan.role,
                template=template,
                human_share=plan.human_share,
                style=plan.answering.style,
                judged=judged,
                evened=plan.weighting == "labels",
            )
            return train_sft(parent, learned, out, plan.sft.model_copy(update=self._kept))
        assert plan.grpo is not None  # noqa: S101  the plan's own check
        tried = rehearsals(lessons, judged or {}, self._images, template, plan.band)
        if not tried:
            low, high = plan.band
            raise DataError(f"none of {len(lessons)} items has a pass rate between {low} and {high}")
        grpo = plan.grpo.model_copy(update=self._kept)
        if not grpo.grader:
            return train_grpo(parent, tried, out, grpo)
        tried = claimed(tried, lessons, self._lake, str(cell.inputs["folds"]))
        with graded(plan.grpo.grader, self._settings, str(cell.inputs["grader_device"])) as grade:
            return train_grpo(parent, tried, out, grpo, grade)

    def _judged(self, cell: Cell, lessons: list[Lesson]) -> dict[str, Judgement]:
        until = published_at(self._lake, self._sources(cell))
        judged = judgements(self._lake, [lesson.item_id for lesson in lessons], until)
        if judgements_digest(judged) != cell.inputs["judgements"]:
            raise ConflictError("the scores of the items changed since the training was planned; plan it again")
        return judged
