"""The plans of a cycle's trainings, by the settings that a preset and its changes amount to."""

from __future__ import annotations

from typing import Any

from medgr2.models.adapters import LoraSettings
from medgr2.models.answer_forms import SHORT, Answering, answering_in
from medgr2.models.grpo import GrpoSettings
from medgr2.models.sft import SftSettings
from medgr2.schemas.presets import TrainSettings
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.train import TrainPlan


def lessons_of(how: TrainSettings, seed: int) -> TrainPlan | None:
    """How the policy learns from examples; None where it does not."""
    if how.sft_steps == 0:
        return None
    sft = SftSettings(
        **_shared(how, seed, how.lora_rank),
        steps=how.sft_steps,
        batch=how.sft_batch,
        accumulation=how.sft_accumulation,
        learning_rate=how.sft_learning_rate,
    )
    return TrainPlan(
        role=Role.POLICY, sft=sft, answering=answering(how), weighting=how.weighting, human_share=how.human_share
    )


def practice_of(how: TrainSettings, seed: int, champion: str = "") -> TrainPlan | None:
    """How it practises after that. `champion` is the reward of the night, which grades replies where it is asked to."""
    if how.grpo_steps == 0:
        return None
    grpo = GrpoSettings(
        **_shared(how, seed, how.lora_rank),
        steps=how.grpo_steps,
        prompts=how.grpo_prompts,
        accumulation=how.grpo_accumulation,
        generations=how.grpo_generations,
        longest=how.grpo_longest,
        temperature=how.grpo_temperature,
        learning_rate=how.grpo_learning_rate,
        epsilon=how.grpo_epsilon,
        epsilon_high=how.grpo_epsilon_high,
        beta=how.grpo_beta,
        loss=how.grpo_loss,
        scale=how.grpo_scale,
        sampler=how.grpo_sampler,
        reward=how.reward,
        grader=champion if how.grades == "replies" else "",
        style=how.answer_style,
    )
    return TrainPlan(role=Role.POLICY, grpo=grpo, answering=answering(how))


def writing_of(how: TrainSettings, seed: int) -> TrainPlan:
    """How the generator learns to write."""
    sft = SftSettings(
        **_shared(how, seed, how.lora_rank if how.generator_lora_rank is None else how.generator_lora_rank),
        steps=how.generator_steps,
        batch=how.generator_batch,
        accumulation=how.generator_accumulation,
        learning_rate=how.generator_learning_rate,
    )
    return TrainPlan(role=Role.GENERATOR, sft=sft, weighting=how.weighting)


def answering(how: TrainSettings) -> Answering:
    """Told at the exam as at practice, and with as much room."""
    return answering_in(how.answer_style, told=how.told, longest=max(SHORT, how.grpo_longest))


def adapters(how: TrainSettings, rank: int) -> LoraSettings | None:
    return LoraSettings(rank=rank, alpha=how.lora_alpha) if rank else None


def _shared(how: TrainSettings, seed: int, rank: int) -> dict[str, Any]:
    return {
        "lora": adapters(how, rank),
        "row_tokens": how.row_tokens,
        "precision": how.precision,
        "attention": how.attention,
        "exact": how.exact,
        "gradient_checkpointing": how.gradient_checkpointing,
        "device": how.device,
        "warmup_steps": how.warmup_steps,
        "seed": seed,
    }
