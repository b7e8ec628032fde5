from __future__ import annotations

import pytest
from pydantic import ValidationError

from medgr2.models.adapters import LoraSettings
from medgr2.models.answer_forms import Answering
from medgr2.models.grpo import GrpoSettings
from medgr2.models.sft import SftSettings
from medgr2.schemas.presets import PRESETS, PresetName, TrainSettings
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.train import TrainPlan, train_recipe
from medgr2.tasks.training_plans import lessons_of, practice_of, writing_of


def test_the_embedded_recipe_is_plain_sft_and_grpo() -> None:
    how = TrainSettings()
    lessons, practice, writing = lessons_of(how, 3), practice_of(how, 3), writing_of(how, 3)
    assert lessons == TrainPlan(role=Role.POLICY, sft=SftSettings(steps=800, batch=16, learning_rate=3e-4, seed=3))
    assert practice == TrainPlan(role=Role.POLICY, grpo=GrpoSettings(steps=20, prompts=8, learning_rate=1e-4, seed=3))
    assert writing == TrainPlan(role=Role.GENERATOR, sft=SftSettings(steps=100, learning_rate=2e-4, seed=3))


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
