"""One parameter model per flow: the form in the Prefect UI, the flags of the command line, the record of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medgr2.schemas.approvals import Approver
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.presets import PRESETS, Device, Judge, PresetName, TrainSettings, Weighting
from medgr2.schemas.stopping import StopParameters
from medgr2.schemas.usage import Budget
from medgr2.schemas.vocabulary import AnswerStyle, Modality, QuestionType

Reviewer = Literal["people", "phantoms"]
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
    unasked_only: bool = Field(
        default=False, description="Only images that no earlier night of this dataset has asked about."
    )
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


def _described(schema: dict[str, Any]) -> None:
    """In a form each setting says what it is, as in the settings that a preset is made of."""
    for name, info in TrainSettings.model_fields.items():
        schema["properties"][name]["description"] = " ".join(filter(None, (info.description, "Empty: the preset's.")))


class TrainParameters(BaseModel):
    """A preset of training, and what is to be other than in it: what is left empty is as the preset says."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_described)

    preset: PresetName = Field(default="cpu-tiny", description="Recipe of training by name.")
    answer_style: AnswerStyle | None = None
    told: bool | None = None
    weighting: Weighting | None = None
    human_share: float | None = None
    device: Device | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    attention: Literal["default", "eager", "sdpa", "flash_attention_2"] | None = None
    exact: bool | None = None
    gradient_checkpointing: bool | None = None
    lora_rank: int | None = None
    generator_lora_rank: int | None = None
    judge_lora_rank: int | None = None
    lora_alpha: float | None = None
    row_tokens: int | None = None
    warmup_steps: int | None = None
    sft_steps: int | None = None
    sft_batch: int | None = None
    sft_accumulation: int | None = None
    sft_learning_rate: float | None = None
    grpo_steps: int | None = None
    grpo_prompts: int | None = None
    grpo_accumulation: int | None = None
    grpo_generations: int | None = None
    grpo_longest: int | None = None
    grpo_temperature: float | None = None
    grpo_learning_rate: float | None = None
    grpo_epsilon: float | None = None
    grpo_epsilon_high: float | None = None
    grpo_beta: float | None = None
    grpo_loss: Literal["dapo", "grpo", "dr_grpo"] | None = None
    grpo_scale: Literal["none", "group", "batch"] | None = None
    grpo_sampler: Literal["transformers", "vllm-server", "vllm-colocate"] | None = None
    reward: Literal["default", "paper", "med-r1"] | None = None
    grades: Literal["items", "replies"] | None = None
    generator_steps: int | None = None
    generator_batch: int | None = None
    generator_accumulation: int | None = None
    generator_learning_rate: float | None = None
    judge: Judge | None = None
    judge_steps: int | None = None
    judge_batch: int | None = None
    judge_accumulation: int | None = None
    judge_learning_rate: float | None = None
    judge_warmup_steps: int | None = None
    judge_members: int | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        try:
            chosen = self.settings
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            raise ValueError(f"{first['loc'][0]}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
        if chosen.sft_steps == 0 and chosen.grpo_steps == 0:
            raise ValueError("neither SFT nor GRPO has a step: there is no policy to examine")
        return self

    @property
    def settings(self) -> TrainSettings:
        """In full: what a run records, so that a preset that changes is another recipe."""
        changed = self.model_dump(exclude={"preset"}, exclude_none=True)
        return TrainSettings.model_validate(PRESETS[self.preset].model_dump() | changed)


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
        asked = self.model_dump(mode="json", exclude={"cycles", "stop", "approval", "approval_hours", "train"})
        # In full: a preset whose values a later release changed is another training.
        return asked | {"train": self.train.settings.model_dump(mode="json")}

    def night(self, cycle: int) -> RefreshParameters:
        """Each cycle is a night of its own name, so a loop that is run again goes on where it stood."""
        name = "-".join(filter(None, (self.refresh.night, f"seed{self.seed}", f"cycle{cycle:02d}")))
        return self.refresh.model_copy(update={"night": name})
