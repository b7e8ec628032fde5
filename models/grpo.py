"""Group-relative policy optimisation with TRL: eight replies to a prompt, each compared with its own group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medgr2.models import crew, ranks
from medgr2.models.adapters import Adapters, LoraSettings
from medgr2.models.answer_forms import parse_answer, parse_thought
from medgr2.models.chat_check import end_tokens, open_processor
from medgr2.models.grpo_watch import refuse_fruitless, watch
from medgr2.models.judging import Claim
from medgr2.models.memory_need import refuse_too_little
from medgr2.models.rewards import Judged, Preset, RewardScheme
from medgr2.models.row_budget import Row, RowBudget
from medgr2.models.sampling import Sampler, sampling
from medgr2.models.training import (
    TrainerSettings,
    common_arguments,
    plain_text,
    read_image,
    rows_dataset,
    schedule,
    train_to_folder,
)
from medgr2.schemas.errors import UsageError
from medgr2.schemas.vocabulary import AnswerStyle

BAND = (0.1, 0.95)
Grade = Callable[[Sequence[tuple[Claim, int]]], list[float]]
"""How good claims are, each with the fold of its picture, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One picture, one question about it and how replies are judged."""

    image: Path
    user: str
    key: str
    options: int
    quality: float
    item: str = ""
    """By which it is named where it is left out."""
    question: str = ""
    choices: tuple[str, ...] = ()
    fold: int = 0
    """Of the picture, for a grader: none of its members that learned from the picture grades a reply about it."""


class GrpoSettings(TrainerSettings):
    steps: int = Field(default=40, ge=1)
    prompts: int = Field(default=8, ge=1, description="Prompts a micro-batch, each answered `generations` times.")
    generations: int = Field(default=8, ge=2)
    longest: int = Field(default=40, ge=2, description="Tokens a reply may have.")
    learning_rate: float = Field(default=1e-4, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    epsilon: float = Field(default=0.2, gt=0)
    epsilon_high: float = Field(default=0.28, gt=0)
    beta: float = Field(default=0.0, ge=0, description="Weight of the KL penalty; 0 keeps no reference model.")
    reward: Preset = "default"
    grader: str = Field(
        default="",
        description="Digest of the reward that grades each reply; empty: its quality is its item's p(valid).",
    )
    sampler: Sampler = Field(
        default="transformers", description="Who writes the replies. What vLLM draws is not drawn again: exact is off."
    )
    style: AnswerStyle = Field(default="think", description="In which replies are read; of the policy that begins.")
    loss: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    scale: Literal["none", "group", "batch"] = Field(default="none", description="What rewards are divided by.")
    lora: LoraSettings | None = Field(default=None, description="Empty: every weight is trained.")
    row_tokens: int | None = Field(
        default=None, ge=16, description="Longest row, picture and longest reply included; empty: what can be read."
    )

    @property
    def rows(self) -> int:
        """What the trainer counts as rows of a micro-batch: replies."""
        return self.prompts * self.generations


def in_band(agree: float | None, low: float = BAND[0], high: float = BAND[1]) -> bool:
    """Whether replies to this item differ often enough to learn from; what was never measured is left out."""
    return agree is not None and low < agree < high


def train_grpo(
    policy: Path, prompts: Sequence[Prompt], out: Path, settings: GrpoSettings, grade: Grade | None = None
) -> dict[str, Any]:
    """Train `policy` on the prompts into `out`. Equal arguments give equal bytes, also after a kill.

    `grade` is that of the settings' grader, which a recipe has to name.
    """
    if (grade is None) != (settings.grader == ""):
        raise UsageError("a grader grades the replies of GRPO if and only if its settings name it")
    reference = settings.beta > 0 and settings.lora is None
    if crew.wanted():
        return crew.train_together(
            "grpo", policy, prompts, out, settings, settings.rows, reference=reference, grade=grade
        )
    if not ranks.several():
        refuse_too_little(policy, settings, settings.lora, reference=reference)
    given = [Row(p.item, p.image, p.user, settings.longest) for p in prompts]
    unfit = RowBudget(policy, settings.row_tokens).unfit(given)
    prompts = [p for place, p in enumerate(prompts) if place not in unfit]
    ends = end_tokens(open_processor(policy), policy)
    adapters = Adapters(settings.lora, settings.seed)
    plain = plain_text(policy)
    order = schedule([1.0] * len(prompts), settings.steps * settings.prompts * settings.accumulation, settings.seed)
    asked = [(p.image, plain(p.user)) for p in prompts]
    sampled = sampling(settings.sampler, policy, asked, settings.longest, settings.precision, exact=settings.exact)
    scheme = RewardScheme(settings.reward, settings.longest, settings.style)

    def read(row: int) -> dict[str, Any]:
        prompt = prompts[row]
        return {
            "prompt": [{"role": "user", "content": plain(prompt.user)}],
            "images": [read_image(prompt.image)],
            "key": prompt.key,
            "options": prompt.options,
            "quality": prompt.quality,
            "place": row,
        }

    def reward(
        completions: list[list[dict[str, str]]],
        completion_ids: list[list[int]],
        key: list[str],
        options: list[int],
        quality: list[float],
        place: list[int],
        **_: Any,
    ) -> list[float]:
        if grade is not None:
            quality = _grades([prompts[i] for i in place], [c[0]["content"] for c in completions], settings, grade)
        rows = zip(completions, completion_ids, key, options, quality, strict=True)
        return [
            scheme(Judged(said[0]["content"], len(ids), k, n, q, bool(ids) and ids[-1] in ends))
            for said, ids, k, n, q in rows
        ]

    def arguments(scratch: Path) -> Any:
        from trl import GRPOConfig

        return GRPOConfig(
            # TRL counts completions here, and so generates anew at every step: each step is a clean cut to resume at.
            **common_arguments(settings, scratch) | ranks.arguments(settings.rows, settings.accumulation),
            num_generations=settings.generations,
            max_completion_length=settings.longest,
            temperature=settings.temperature,
            loss_type=settings.loss,
            scale_rewards=settings.scale,
            epsilon=settings.epsilon,
            epsilon_high=settings.epsilon_high,
            beta=settings.beta,
            shuffle_dataset=False,
            log_completions=False,
            **sampled.arguments,
        )

    def record(history: list[dict[str, Any]]) -> dict[str, Any]:
        refuse_fruitless(history, finished=True)
        left_out = {given[place].item or str(place): why for place, why in unfit.items()}
        return _record(history) | {"prompts": len(prompts), "left_out": left_out, "trained": adapters.trained}

    return train_to_folder(
        policy,
        out,
        _trainer(),
        arguments,
        settings,
        record,
        dress=adapters.dress,
        undress=adapters.undress,
        train_dataset=rows_dataset(order, read),
        reward_funcs=reward,
        callbacks=[watch(), *sampled.callbacks],
    )


def _grades(asked: Sequence[Prompt], said: Sequence[str], settings: GrpoSettings, grade: Grade) -> list[float]:
    """Of each reply as a claim about its picture. One that cannot be read claims nothing: it is worth nothing."""
    claims: dict[int, tuple[Claim, int]] = {}
    for i, (prompt, text) in enumerate(zip(asked, said, strict=True)):
        if (letter := parse_answer(text, prompt.options, settings.style)) is not None:
            thought = parse_thought(text, settings.style)
            claims[i] = Claim(prompt.image, prompt.question, prompt.choices, letter, thought), prompt.fold
    told = dict(zip(claims, grade(list(claims.values())) if claims else [], strict=True))
    return [told.get(i, 0.0) for i in range(len(asked))]


def _record(history: list[dict[str, Any]]) -> dict[str, Any]:
    steps = [row for row in history if "reward" in row]
    flat = [row["frac_reward_zero_std"] for row in steps]
    rewards = [row["reward"] for row in steps]
    return {
        "method": "grpo",
        "first_reward": sum(rewards[:5]) / len(rewards[:5]),
        "last_reward": sum(rewards[-5:]) / len(rewards[-5:]),
        "groups_without_difference": sum(flat) / len(flat),
        "mean_length": sum(row["completions/mean_length"] for row in steps) / len(steps),
        "never_ended": sum(row["completions/clipped_ratio"] for row in steps) / len(steps),
    }


def _trainer() -> type[Any]:
    from trl import GRPOTrainer

    return GRPOTrainer
