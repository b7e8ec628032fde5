"""A policy is taught, then practises; what can not be practised is left out and told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from medgr2.infra.workspace import Workspace
from medgr2.models.answer_forms import METRIC
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.errors import NightStoppedError
from medgr2.schemas.parameters import SEED, TrainParameters
from medgr2.schemas.reports import DatasetVersion, Plan
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.improve import train_generator, train_policy, why_not_taught
from medgr2.tasks.night import Night

TINY = {"sft_learning_rate": 3e-4,
    "sft_steps": 2, "sft_batch": 2, "grpo_steps": 2, "grpo_prompts": 2, "grpo_generations": 8, "grpo_longest": 16,
    "generator_steps": 1,
}  # fmt: skip


def quiet(plan: Plan) -> None:
    del plan


@dataclass
class Ward:
    workspace: Workspace
    registry: Registry
    night: Night
    version: DatasetVersion
    items: list[str]


@pytest.fixture
def ward(room: Any) -> Ward:
    workspace = Workspace(settings=room.settings, store=room.store, lake=room.lake, images=room.images)
    registry = Registry(room.store, room.lake)
    base = registry.register(Registration(role=Role.BASE, artifact=room.base, method="given", run="r"))
    items = [room.item(room.picture(i), i) for i in range(3)]
    room.publish(SEED, [room.item(room.picture(100), 100, "human")])
    version = room.publish("ds", items)
    night = Night(
        run="ds/one", dataset="ds", base_id=base, base=room.base, generator=room.base, scorer=room.base,
        champion_id=None, images="0" * 64, history=None,
    )  # fmt: skip
    return Ward(workspace, registry, night, version, items)


def learn(ward: Ward, **changes: Any) -> Any:
    how = TrainParameters.model_validate(TINY | changes)
    return train_policy(ward.workspace, ward.night, ward.version, how, 0, quiet)


def test_taught_then_practised(room: Any, ward: Ward) -> None:
    for item in ward.items:
        room.score(item, 0.5, 0.9)
    taught = learn(ward)
    assert taught.notes == ()
    policy = ward.registry.model(taught.model_id)
    lessons = ward.registry.model(policy["parent"])
    assert (policy["method"], lessons["method"]) == ("grpo", "sft")
    assert lessons["parent"] == ward.night.base_id
    assert METRIC not in policy["metrics"]


def test_a_constant_reward_promotes_nothing_and_the_policy_is_as_sft_left_it(room: Any, ward: Ward) -> None:
    for item in ward.items:
        room.score(item, 0.5, 0.9)
    taught = learn(ward, grpo_temperature=0.001)
    assert len(taught.notes) == 1
    assert "as SFT left it: the reward is constant" in taught.notes[0]
    assert ward.registry.model(taught.model_id)["method"] == "sft"
    methods = [row["method"] for row in ward.workspace.lake.read("models").to_pylist()]
    assert sorted(methods) == ["given", "sft"]
    # Found out once: the same practice is not tried again.
    assert learn(ward, grpo_temperature=0.001) == taught


def test_an_empty_band_and_replies_without_an_end_are_told_alike(room: Any, ward: Ward) -> None:
    assert "none of 4 items has a pass rate" in learn(ward).notes[0]
    for item in ward.items:
        room.score(item, 0.5, 0.9)
    assert "never ended" in learn(ward, grpo_longest=3).notes[0]


def test_where_there_is_only_practice_a_fruitless_one_ends_the_night(ward: Ward) -> None:
    with pytest.raises(NightStoppedError, match="by grpo: none of 4 items has a pass rate") as stopped:
        learn(ward, sft_steps=0)
    assert "nothing was promoted" in stopped.value.kept


def test_another_form_of_answer_goes_with_the_model_to_its_exam(ward: Ward) -> None:
    for told, prompt in ((False, "answer.v1"), (True, "answer.think-after.v1")):
        taught = learn(ward, answer_style="think-after", told=told, grpo_steps=0)
        metrics = ward.registry.model(taught.model_id)["metrics"]
        assert metrics[METRIC] == {"style": "think-after", "prompt": prompt, "longest": 64}


def test_a_generator_is_taught_to_write_whatever_form_the_policy_answers_in(ward: Ward) -> None:
    how = TrainParameters.model_validate(TINY | {"answer_style": "no-think"})
    made = train_generator(ward.workspace, ward.night, ward.version, how, 0, quiet)
    assert made is not None
    row = ward.registry.model(made)
    assert (row["role"], row["parent"]) == (Role.GENERATOR, ward.night.base_id)
    assert METRIC not in row["metrics"]


def test_a_generator_that_is_asked_in_other_words_than_are_taught_stays_as_it_is(room: Any, ward: Ward) -> None:
    assert why_not_taught(ward.night, room.settings) == ""
    served = ward.night.model_copy(update={"generator": "served:a-model"})
    assert "served by somebody else" in why_not_taught(served, room.settings)
    own = room.settings.models.model_copy(update={"base": "/models/large"})
    assert "asked in a style" in why_not_taught(ward.night, room.settings.model_copy(update={"models": own}))
