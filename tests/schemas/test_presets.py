"""A preset is a whole recipe under a name; what a person changes is changed, and nothing else."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from medgr2.schemas.parameters import LoopParameters, TrainParameters
from medgr2.schemas.presets import BASES, PRESETS, TrainSettings


def test_every_setting_of_a_preset_can_be_changed_and_says_what_it_is() -> None:
    assert TrainParameters.model_fields.keys() - {"preset"} == TrainSettings.model_fields.keys()
    assert PRESETS.keys() == BASES.keys()
    told = LoopParameters.model_json_schema()["$defs"]["TrainParameters"]["properties"]
    for name in TrainSettings.model_fields:
        assert TrainParameters.model_fields[name].default is None
        assert told[name]["description"].endswith("Empty: the preset's.")


def test_what_is_left_empty_is_the_presets() -> None:
    assert TrainParameters().settings == PRESETS["cpu-tiny"]
    changed = TrainParameters(preset="paper", grpo_steps=3, lora_rank=8).settings
    assert changed == PRESETS["paper"].model_copy(update={"grpo_steps": 3, "lora_rank": 8})


def test_the_published_recipes_are_as_published() -> None:
    paper, med_r1 = PRESETS["paper"], PRESETS["med-r1"]
    assert BASES["paper"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert (paper.grpo_generations, paper.reward, paper.judge) == (8, "paper", "paper")
    assert paper.sft_steps > 0 < paper.grpo_steps
    assert (med_r1.grpo_generations, med_r1.grpo_beta, med_r1.reward, med_r1.sft_steps) == (4, 0.04, "med-r1", 0)
    ours = PRESETS["default"]
    assert (ours.grpo_generations, ours.grpo_loss, ours.grpo_scale, ours.grpo_beta) == (8, "dapo", "none", 0.0)
    assert (ours.grpo_epsilon, ours.grpo_epsilon_high, ours.precision) == (0.2, 0.28, "bfloat16")
    assert ours.lora_rank > 0


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"preset": "huge"}, "'cpu-tiny', 'paper', 'med-r1' or 'default'"),
        ({"sft_steps": -1}, "sft_steps"),
        ({"grpo_generations": 1}, "grpo_generations"),
        ({"preset": "med-r1", "grpo_steps": 0}, "neither SFT nor GRPO"),
        ({"sft_step": 3}, "sft_step"),
    ],
)
def test_what_makes_no_sense_is_refused(bad: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TrainParameters.model_validate(bad)


def test_a_cycle_records_its_settings_in_full() -> None:
    """By its name alone, a preset that a later release changed would be taken for the one that was trained."""
    named = LoopParameters.model_validate({"train": {"preset": "med-r1"}})
    spelled = LoopParameters.model_validate({"train": PRESETS["med-r1"].model_dump()})
    assert named.lived == spelled.lived != LoopParameters().lived
    assert named.lived["train"] == PRESETS["med-r1"].model_dump(mode="json")
