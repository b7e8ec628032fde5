"""One parameter model per flow: the form in the Prefect UI, the flags of the command line, the record of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from medgr2.schemas.approvals import Approver
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.stopping import StopParameters
from medgr2.schemas.usage import Budget
from medgr2.schemas.vocabulary import Modality, QuestionType

Reviewer = Literal["people", "phantoms"]
Judge = Literal["default", "paper"]
Style = Literal["direct", "step-by-step", "meta-cognitive"]
STYLES: tuple[Style, ...] = get_args(Style)
Share = Annotated[float, Field(ge=0, le=1)]
EMBEDDED = "embedded"
SEED, HELDOUT = "seed", "heldout"
BENCHMARK_DATASETS = ("omnimedvqa", "vqa-rad", "slake", "pathvqa", "med-r1")
EVALUATION_DATASETS = (HELDOUT, *BENCHMARK_DATASETS)
"""Nothing like their questions may be taught."""
PEOPLE_DATASETS = (SEED, *EVALUATION_DATASETS)
REWARD_LESSONS = "reward-lessons"
"""What each reward was taught, a version a cycle."""


class GenerateParameters(BaseModel):
    """What the generator is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question_types: tuple[QuestionType, ...] = Field(default=tuple(QuestionType), min_length=1)
    samples: int = Field(default=1, ge=1, le=32, description="Drafts per image and question type.")
    temperature: float = Field(default=1.0, ge=0, le=2)
    images: int | None = Field(default=None, ge=1, description="At most so many images; empty means all.")
    style: Style | None = Field(
        default=None,
        description="How the generator is asked; empty means meta-cognitive, and for the embedded model the only "
        "words that it was taught.",
    )
    quotas: dict[QuestionType | Modality, Share] = Field(
        default_factory=dict,
        description="Share of the images that are asked about with a question type, or of a modality; others: all.",
    )
    repairs: int = Field(default=1, ge=0, le=5, description="Times a reply that cannot be read is asked for again.")
    budget: Budget | None = Field(default=None, description="What a night may buy, over all its tries.")
    target: int | None = Field(default=None, ge=1, description="Stop asking once so many items are accepted.")


class ScoreParameters(BaseModel):
    """How drafts are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: int = Field(default=8, ge=1, le=64, description="Image-only answers sampled per item (K).")
    canaries: int = Field(
        default=40, ge=0, le=1000, description="Known-bad items judged beside each night's drafts; none is published."
    )
    audits: int = Field(default=100, ge=20, le=2000, description="Items put before the reviewer each night.")
    reviewer: Reviewer = Field(
        default="people", description="'phantoms' lets the embedded world's own process play the reviewer."
    )


class SelectParameters(BaseModel):
    """What is good enough to be published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tau: float = Field(default=0.8, gt=0, lt=1, description="Smallest p(valid) that is accepted.")
    cap: int = Field(default=400, ge=1, description="At most so many new items per modality and question type.")
    top_k: int | None = Field(
        default=None, ge=1, description="At most so many in all, the best by p(valid); then no cap for each slice."
    )
    balance_keys: bool = Field(
        default=True,
        description="Leave out the surplus of labels that are the key more often than chance allows, the lowest "
        "p(valid) first; without it such a batch is not published at all.",
    )


class WorldParameters(BaseModel):
    """The embedded world of phantoms, for source 'embedded' only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=7, ge=0, description="Another seed is another hospital.")
    images: int = Field(default=300, ge=20, le=100_000, description="Training images in it.")


class RefreshParameters(BaseModel):
    """One night of data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(default="nightly", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Name of the dataset.")
    night: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Name of the night; empty means today's date (UTC)."
    )
    source: str = Field(default="", description="Folder or s3:// prefix of new images, 'embedded', or empty for none.")
    labels: str = Field(
        default="", description="Labels of the source; empty means labels.csv inside it, if it is there."
    )
    intake: IntakeParameters = IntakeParameters()
    world: WorldParameters = WorldParameters()
    generate: GenerateParameters = GenerateParameters()
    score: ScoreParameters = ScoreParameters()
    select: SelectParameters = SelectParameters()

    def tonight(self) -> Self:
        if self.night:
            return self
        return self.model_copy(update={"night": datetime.now(UTC).date().isoformat()})

    @field_validator("dataset")
    @classmethod
    def _not_of_people(cls, dataset: str) -> str:
        if dataset in PEOPLE_DATASETS:
            raise ValueError(f"{dataset} is kept for questions that people wrote")
        if dataset == REWARD_LESSONS:
            raise ValueError(f"{dataset} is kept for what rewards were taught")
        return dataset

    @model_validator(mode="after")
    def _phantoms_review_phantoms_only(self) -> Self:
        if self.score.reviewer == "phantoms" and self.source != EMBEDDED:
            raise ValueError("the phantoms can only review their own world: set source to 'embedded'")
        return self

    @property
    def run(self) -> str:
        return f"{self.dataset}/{self.night}"


class TrainParameters(BaseModel):
    """How the policy and the generator are trained. The defaults are the preset `cpu-tiny`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sft_steps: int = Field(default=800, ge=1)
    sft_batch: int = Field(default=16, ge=1)
    sft_learning_rate: float = Field(default=3e-4, gt=0)
    grpo_steps: int = Field(default=20, ge=0, description="0 leaves GRPO out.")
    grpo_prompts: int = Field(default=8, ge=1, description="Prompts a step, eight answers each.")
    grpo_learning_rate: float = Field(default=1e-4, gt=0)
    reward: Literal["default", "paper"] = Field(default="default", description="Reward preset of GRPO.")
    generator_steps: int = Field(default=100, ge=0, description="0 keeps the generator as it is.")
    generator_learning_rate: float = Field(default=2e-4, gt=0)
    judge: Judge = Field(
        default="default", description="Preset of the reward model: Yes or No, or the paper's head on four grades."
    )
    judge_steps: int = Field(default=400, ge=0, description="Of each member; 0 keeps the reward as it is.")
    judge_members: int = Field(default=2, ge=1, le=8, description="Members of the reward that judge an item.")


class LoopParameters(BaseModel):
    """The closed loop: N cycles of refresh, train, evaluate, promote, regenerate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cycles: int = Field(default=1, ge=1, le=100)
    seed: int = Field(default=7, ge=0, description="Seed of every training run.")
    refresh: RefreshParameters = RefreshParameters(
        dataset="loop", source=EMBEDDED, score=ScoreParameters(reviewer="phantoms")
    )
    train: TrainParameters = TrainParameters()
    stop: StopParameters = StopParameters()
    approval: Approver = Field(
        default="gate", description="Who promotes a policy that passed its exam: the gate, or a person who is asked."
    )
    approval_hours: float = Field(
        default=12, gt=0, le=24 * 30, description="So long a person is waited for; then the champion is kept."
    )

    @property
    def lived(self) -> dict[str, object]:
        """What a cycle does; not how many there are, when they stop, or who is asked."""
        return self.model_dump(mode="json", exclude={"cycles", "stop", "approval", "approval_hours"})

    def night(self, cycle: int) -> RefreshParameters:
        """Each cycle is a night of its own name, so a loop that is run again goes on where it stood."""
        name = "-".join(filter(None, (self.refresh.night, f"seed{self.seed}", f"cycle{cycle:02d}")))
        return self.refresh.model_copy(update={"night": name})
