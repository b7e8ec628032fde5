"""Presets of training: every setting of the policy, the generator and the reward of one recipe, under one name."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medgr2.schemas.vocabulary import AnswerStyle

PresetName = Literal["cpu-tiny", "paper", "med-r1", "default"]
Judge = Literal["default", "paper"]
Device = Literal["cpu", "cuda"]
Weighting = Literal["equal", "p_valid", "labels"]


class TrainSettings(BaseModel):
    """How the three models are trained, in full. The defaults are for one thread of a CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer_style: AnswerStyle = Field(
        default="think", description="Whether the policy says what it sees before its letter, not at all, or after it."
    )
    told: bool = Field(
        default=False, description="The prompt says how to reply; else the policy learns it from examples alone."
    )
    weighting: Weighting = Field(
        default="equal",
        description="How often SFT visits a generated item: all alike, the surer the more often, or the rarer its "
        "label among them the more often.",
    )
    human_share: float = Field(
        default=0.3, ge=0, le=1, description="Share of a policy's SFT visits to questions people wrote."
    )
    device: Device = Field(default="cpu", description="Where policy and generator are trained.")
    precision: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["default", "eager", "sdpa", "flash_attention_2"] = Field(
        default="default", description="Kernels of attention; default is the model's own choice."
    )
    exact: bool = Field(
        default=True, description="Refuse whatever would make a resumed run another one than an undisturbed run."
    )
    gradient_checkpointing: bool = Field(default=False, description="Less memory for more time.")
    lora_rank: int = Field(default=0, ge=0, description="Of the adapters; 0 trains all weights.")
    generator_lora_rank: int | None = Field(default=None, ge=0, description="Of the generator's; empty: lora_rank.")
    judge_lora_rank: int | None = Field(default=None, ge=0, description="Of the reward's; empty: lora_rank.")
    lora_alpha: float = Field(default=16.0, gt=0)
    row_tokens: int | None = Field(
        default=None, ge=16, description="Longest row, picture and reply included; empty: what the model can read."
    )
    warmup_steps: int = Field(default=0, ge=0)
    sft_steps: int = Field(default=800, ge=0, description="0 leaves SFT out.")
    sft_batch: int = Field(default=16, ge=1, description="Examples a micro-batch.")
    sft_accumulation: int = Field(default=1, ge=1, description="Micro-batches a step.")
    sft_learning_rate: float = Field(default=3e-4, gt=0)
    grpo_steps: int = Field(default=20, ge=0, description="0 leaves GRPO out.")
    grpo_prompts: int = Field(default=8, ge=1, description="Prompts a micro-batch.")
    grpo_accumulation: int = Field(default=1, ge=1, description="Micro-batches a step.")
    grpo_generations: int = Field(default=8, ge=2, description="Answers to each prompt.")
    grpo_longest: int = Field(default=40, ge=2, description="Tokens an answer may have.")
    grpo_temperature: float = Field(default=1.0, gt=0)
    grpo_learning_rate: float = Field(default=1e-4, gt=0)
    grpo_epsilon: float = Field(default=0.2, gt=0, description="Largest step down of a token's probability ratio.")
    grpo_epsilon_high: float = Field(default=0.28, gt=0, description="And up.")
    grpo_beta: float = Field(default=0.0, ge=0, description="Weight of the KL penalty; 0 keeps no reference model.")
    grpo_sampler: Literal["transformers", "vllm-server", "vllm-colocate"] = Field(
        default="transformers", description="Who writes the answers that are compared; vLLM needs exact off."
    )
    grpo_loss: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    grpo_scale: Literal["none", "group", "batch"] = Field(default="none", description="What rewards are divided by.")
    reward: Literal["default", "paper", "med-r1"] = Field(default="default", description="Reward scheme of GRPO.")
    grades: Literal["items", "replies"] = Field(
        default="items",
        description="R of GRPO: p(valid) of the item, or the champion reward's grade of each reply, if there is one.",
    )
    generator_steps: int = Field(default=100, ge=0, description="0 keeps the generator as it is.")
    generator_batch: int = Field(default=16, ge=1, description="Examples a micro-batch.")
    generator_accumulation: int = Field(default=1, ge=1, description="Micro-batches a step.")
    generator_learning_rate: float = Field(default=2e-4, gt=0)
    judge: Judge = Field(
        default="default", description="Preset of the reward model: Yes or No, or the paper's head on four grades."
    )
    judge_steps: int = Field(default=400, ge=0, description="Of each member; 0 keeps the reward as it is.")
    judge_batch: int = Field(default=16, ge=1, description="Claims a micro-batch.")
    judge_accumulation: int = Field(default=1, ge=1, description="Micro-batches a step.")
    judge_learning_rate: float = Field(default=5e-4, gt=0)
    judge_warmup_steps: int = Field(default=20, ge=0)
    judge_members: int = Field(default=2, ge=1, le=8, description="Members of the reward that judge an item.")


# Rates of generator and reward are what is usual for adapters of models of this size, and their batches are those of
# the policy's SFT: 16 rows a step, two at a time. No paper says them, and none was measured here.
_GPU = {
    "told": True,
    "device": "cuda",
    "precision": "bfloat16",
    "gradient_checkpointing": True,
    "row_tokens": 4096,
    "warmup_steps": 20,
    "sft_batch": 2,
    "sft_accumulation": 8,
    "grpo_prompts": 1,
    "grpo_accumulation": 8,
    "lora_alpha": 64.0,
    "generator_lora_rank": 32,
    "generator_batch": 2,
    "generator_accumulation": 8,
    "generator_learning_rate": 1e-4,
    "judge_lora_rank": 32,
    "judge_batch": 2,
    "judge_accumulation": 8,
    "judge_learning_rate": 1e-4,
}
_PUBLISHED = {
    "sft_learning_rate": 1e-5,
    "grpo_learning_rate": 1e-6,
    "grpo_epsilon_high": 0.2,
    "grpo_loss": "grpo",
    "grpo_scale": "group",
}

PRESETS: dict[PresetName, TrainSettings] = {
    # Chosen on other worlds than those that any table is made of.
    "cpu-tiny": TrainSettings(
        sft_steps=500,
        sft_learning_rate=7e-4,
        human_share=0.1,
        weighting="labels",
        generator_steps=300,
        generator_learning_rate=5e-4,
    ),
    # What a paper does not say is ours: numbers of steps, batches, rates of learning.
    "paper": TrainSettings.model_validate(
        _GPU
        | _PUBLISHED
        | {
            "sft_steps": 500,
            "grpo_steps": 300,
            "grpo_generations": 8,
            "grpo_longest": 512,
            "grpo_beta": 0.04,
            "reward": "paper",
            "grades": "replies",
            "generator_steps": 200,
            "judge": "paper",
        }
    ),
    # No SFT: the prompt says how to reply, and the form has a reward of its own.
    "med-r1": TrainSettings.model_validate(
        _GPU
        | _PUBLISHED
        | {
            "sft_steps": 0,
            "grpo_steps": 500,
            "grpo_generations": 4,
            "grpo_longest": 512,
            "grpo_beta": 0.04,
            "reward": "med-r1",
            "generator_steps": 0,
        }
    ),
    "default": TrainSettings.model_validate(
        _GPU
        | {
            "weighting": "p_valid",
            "lora_rank": 32,
            "sft_steps": 500,
            "sft_learning_rate": 1e-4,
            "grpo_steps": 200,
            "grpo_generations": 8,
            "grpo_longest": 512,
            "grpo_learning_rate": 1e-5,
            "generator_steps": 200,
        }
    ),
}
BASES: dict[PresetName, str] = {
    "cpu-tiny": "embedded",
    "paper": "Qwen/Qwen2.5-VL-7B-Instruct",
    "med-r1": "Qwen/Qwen2-VL-2B-Instruct",
    "default": "",
}
"""The base that a preset was made for, by its public name; empty: any that chats about pictures and fits the GPU."""
