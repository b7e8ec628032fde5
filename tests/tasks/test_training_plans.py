from __future__ import annotations

import pytest
from pydantic import ValidationError

from medgr2.models.adapters import LoraSettings
from medgr2.models.answer_forms import Answering
from medgr2.models.grpo import GrpoSettings
from medgr2.models.sft import SftSettings
from medgr2.schemas.parameters import TrainParameters
from medgr2.schemas.presets import PRESETS, PresetName, TrainSettings
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.reward import plan_of
from medgr2.tasks.reward_train import reward_recipe
from medgr2.tasks.train import TrainPlan, train_recipe
from medgr2.tasks.training_plans import lessons_of, practice_of, writing_of


def test_the_embedded_recipe_is_plain_sft_and_grpo() -> None:
    how = TrainSettings()
    lessons, practice, writing = lessons_of(how, 3), practice_of(how, 3), writing_of(how, 3)
    assert lessons == TrainPlan(role=Role.POLICY, sft=SftSettings(steps=800, batch=16, learning_rate=3e-4, seed=3))
    assert practice == TrainPlan(role=Role.POLICY, grpo=GrpoSettings(steps=20, prompts=8, learning_rate=1e-4, seed=3))
    assert writing == TrainPlan(role=Role.GENERATOR, sft=SftSettings(steps=100, learning_rate=2e-4, seed=3))


KEYS = ("266f8d5dc469", "0d6bf6b231a8", "29da0f73c6c5", "38cb8c7560e8")
"""Of the trainings of cpu-tiny, since SFT on a CPU scores the reply alone; the reward's, untouched by it, is older."""


def test_a_new_setting_makes_no_new_training_of_the_embedded_recipe() -> None:
    """Or every root would train anew, without a word, what lies in its journal."""
    how = TrainParameters(sft_steps=600)
    plans = lessons_of(how.settings, 3), practice_of(how.settings, 3), writing_of(how.settings, 3)
    recipes = [train_recipe(plan, "a" * 64) for plan in plans if plan] + [reward_recipe(plan_of(how, 3), "a" * 64)]
    assert tuple(recipe.digest[:12] for recipe in recipes) == KEYS


@pytest.mark.parametrize("name", ["paper", "med-r1", "default"])
def test_generator_and_reward_are_not_trained_as_the_tiny_ones(name: PresetName) -> None:
    how = TrainParameters(preset=name)
    writing, judge = writing_of(how.settings.model_copy(update={"generator_steps": 1}), 0).sft, plan_of(how, 0).settings
    assert writing is not None
    for one in (writing, judge):
        assert one.lora == LoraSettings(rank=32, alpha=64.0)
        assert (one.batch, one.accumulation, one.learning_rate) == (2, 8, 1e-4)
        assert (one.device, one.precision, one.gradient_checkpointing) == ("cuda", "bfloat16", True)
    changed = {
        "judge_batch": 3, "judge_accumulation": 5, "judge_learning_rate": 7e-5, "judge_warmup_steps": 9,
        "judge_lora_rank": 4, "attention": "sdpa", "exact": False,
    }  # fmt: skip
    told = plan_of(TrainParameters.model_validate({"preset": name} | changed), 0).settings
    assert (told.batch, told.accumulation, told.learning_rate, told.warmup_steps) == (3, 5, 7e-5, 9)
    assert (told.lora, told.attention, told.exact) == (LoraSettings(rank=4, alpha=64.0), "sdpa", False)
    assert reward_recipe(plan_of(how, 0), "a" * 64).parameters["settings"] == judge.model_dump(mode="json")


def test_adapters_are_for_all_three_unless_said_otherwise() -> None:
    how = TrainParameters(lora_rank=8)
    assert plan_of(how, 0).settings.lora == LoraSettings(rank=8)
    writing = writing_of(how.settings, 0).sft
    assert writing is not None
    assert writing.lora == LoraSettings(rank=8)
    assert plan_of(TrainParameters(lora_rank=8, judge_lora_rank=0), 0).settings.lora is None


def test_a_step_count_of_nothing_leaves_its_method_out() -> None:
    assert lessons_of(PRESETS["med-r1"], 0) is None
    assert practice_of(TrainSettings(grpo_steps=0), 0) is None


@pytest.mark.parametrize("name", ["paper", "med-r1", "default"])
def test_a_recipe_holds_every_setting_and_no_presets_name(name: PresetName) -> None:
    how = PRESETS[name]
    practice = practice_of(how, 0)
    assert practice is not None
    assert practice.grpo is not None
    assert (practice.grpo.beta, practice.grpo.generations) == (how.grpo_beta, how.grpo_generations)
    assert (practice.grpo.device, practice.grpo.precision) == ("cuda", "bfloat16")
    assert practice.grpo.lora == (LoraSettings(rank=32, alpha=64.0) if name == "default" else None)
    recipe = train_recipe(practice, "0" * 64)
    assert '"preset"' not in recipe.model_dump_json()
    assert (
        recipe.digest
        != train_recipe(practice_of(how.model_copy(update={"warmup_steps": 1}), 0) or practice, "0" * 64).digest
    )


def test_each_style_is_asked_in_its_own_words_and_read_in_its_own_form() -> None:
    recipes = set()
    for style in ("think", "no-think", "think-after"):
        how = PRESETS["med-r1"].model_copy(update={"answer_style": style})
        practice = practice_of(how, 0)
        assert practice is not None
        assert practice.grpo is not None
        assert practice.grpo.style == practice.answering.style == style
        assert practice.answering == Answering(style=style, prompt=f"answer.{style}.v1", longest=512)  # type: ignore[arg-type]
        recipes.add(train_recipe(practice, "0" * 64).prompt)
    assert len(recipes) == 3


def test_a_plan_that_reads_another_form_than_it_asks_for_is_refused() -> None:
    with pytest.raises(ValidationError, match="style"):
        TrainPlan(role=Role.POLICY, grpo=GrpoSettings(style="no-think"))
