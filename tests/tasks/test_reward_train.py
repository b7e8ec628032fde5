"""A reward of several members: each learns from other pictures than it judges, and is found when it was trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from medgr2.infra.artifacts import get_folder
from medgr2.infra.workspace import Workspace
from medgr2.models.judging import Claim
from medgr2.models.registry import Registry, Source
from medgr2.models.reward_lessons import Witness
from medgr2.models.reward_model import RewardModel
from medgr2.models.reward_training import RewardExample, RewardSettings
from medgr2.schemas.errors import DataError, NightStoppedError
from medgr2.schemas.parameters import RefreshParameters, TrainParameters
from medgr2.schemas.reports import Plan
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import reward, reward_train, score_reward
from medgr2.tasks.gate_context import read_items
from medgr2.tasks.night import Night
from medgr2.tasks.reward_evidence import Told, publish
from medgr2.tasks.reward_folds import FOLDS, folds
from medgr2.tasks.reward_train import RewardPlan

SMALL = RewardPlan(settings=RewardSettings(steps=2, batch=2, warmup_steps=0), members=2)


def night_of(room: Any) -> Night:
    return Night(
        run="ds/two", dataset="ds", base_id="base", base=room.base, generator="g", scorer="s", champion_id=None,
        images="", history=None,
    )  # fmt: skip


@pytest.fixture
def workspace(room: Any) -> Workspace:
    return Workspace(settings=room.settings, store=room.store, lake=room.lake, images=room.images)


@pytest.fixture
def told(room: Any) -> Told:
    items = [room.item(room.picture(n), n) for n in range(12)]
    return {item: (n % 4 > 0, Witness.AUDIT) for n, item in enumerate(items)}


def trained(workspace: Workspace, night: Night, told: Told, plan: RewardPlan) -> tuple[str | None, str, list[str]]:
    plans: list[str] = []

    def note(made: Plan) -> None:
        plans.append(made.line())

    source, evidence = publish(workspace, night, told)
    return *reward.train(workspace, night, plan, source, evidence, note), plans


def test_no_member_learns_from_a_picture_of_the_fold_it_judges(
    room: Any, workspace: Workspace, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither from its own questions nor by having it swapped in for another one's."""
    learned: dict[int, set[str]] = {}

    def watch(base: Path, examples: Sequence[RewardExample], out: Path, settings: RewardSettings) -> dict[str, Any]:
        del base
        out.mkdir(parents=True)
        (out / "config.json").write_text(f'{{"seed": {settings.seed}, "examples": {len(examples)}}}')
        learned[len(learned)] = {example.claim.image_path.name for example in examples}
        return {}

    monkeypatch.setattr(reward_train, "train_reward", watch)
    artifact, _, _ = trained(workspace, night_of(room), told, SMALL.model_copy(update={"members": 1}))
    assert artifact
    images = {item.image_id for item in read_items(room.lake, told)}
    fold = folds(room.lake, images)
    by_fold = {frozenset(i for i in images if fold[i] != n) for n in range(FOLDS)}
    assert {frozenset(seen) for seen in learned.values()} == by_fold
    assert frozenset.union(*by_fold) == images


def test_trained_once_and_every_member_judges_its_own_fold(room: Any, workspace: Workspace, told: Told) -> None:
    night = night_of(room)
    artifact, why, plans = trained(workspace, night, told, SMALL)
    assert (artifact is None, why) == (False, "")
    assert plans == ["train-reward: 4 new, 0 reused, 0 retried (4 in all)"]
    again, _, plans = trained(workspace, night, told, SMALL)
    assert (again, plans) == (artifact, ["train-reward: 0 new, 4 reused, 0 retried (4 in all)"])
    assert artifact is not None
    folder = get_folder(room.store, artifact, room.settings.storage.cache_folder)
    weights = [member / "model.safetensors" for fold in range(FOLDS) for member in score_reward.members(folder, fold)]
    assert len({path.read_bytes() for path in weights}) == 4

    items = [(item.item_id, item) for item in read_items(room.lake, told)]
    request, cells = score_reward.asked_for(artifact, items, run="ds/two", lake=room.lake)
    outcomes = room.run(request.recipe, request.worker, cells)
    fold = folds(room.lake, [item.image_id for _, item in items])
    for (_, item), cell in zip(items, cells, strict=True):
        claim = Claim(room.images.path(item.image_id), item.question, item.options, item.answer, item.rationale)
        values = [RewardModel(m).score([claim])[0] for m in score_reward.members(folder, fold[item.image_id])]
        value = outcomes[cell.key].value
        assert value["rm"] == pytest.approx(sum(values) / 2, abs=1e-9)
        assert value["rm_std"] == pytest.approx(abs(values[0] - values[1]) / 2, abs=1e-9)


def test_what_is_said_matters_and_who_says_it_too(room: Any, workspace: Workspace, told: Told) -> None:
    night = night_of(room)
    first, _, _ = trained(workspace, night, told, SMALL)
    item = min(told)
    turned, _, plans = trained(workspace, night, {**told, item: (not told[item][0], Witness.AUDIT)}, SMALL)
    assert plans[0].startswith("train-reward: 4 new")
    assert turned != first


def test_lessons_of_one_kind_train_nothing_and_say_why(room: Any, workspace: Workspace, told: Told) -> None:
    artifact, why, _ = trained(workspace, night_of(room), dict.fromkeys(told, (False, Witness.AUDIT)), SMALL)
    assert artifact is None
    assert "nothing can be told apart" in why


@pytest.mark.parametrize("form", ["yes-no", "head"])
def test_one_picture_teaches_one_half_and_the_other_has_no_lesson(
    room: Any, workspace: Workspace, form: Literal["yes-no", "head"]
) -> None:
    picture = room.picture(1)
    told = {room.item(picture, n): (n > 0, Witness.AUDIT) for n in range(4)}
    plan = SMALL.model_copy(update={"settings": SMALL.settings.model_copy(update={"form": form}), "members": 1})
    artifact, why, _ = trained(workspace, night_of(room), told, plan)
    assert artifact is None
    assert re.search("0 claims hold|no row was given", why)


def test_a_damaged_picture_is_no_verdict_on_the_lessons(room: Any, workspace: Workspace, told: Told) -> None:
    """Restored, it teaches: a cell that was told to be untrainable would be so for ever."""
    (image,) = room.lake.read("items", ["image_id"], {"item_id": min(told)})["image_id"].to_pylist()
    path = room.images.path(image)
    kept = path.read_bytes()
    path.write_bytes(b"not a picture")
    plan = SMALL.model_copy(update={"members": 1})
    with pytest.raises(NightStoppedError, match="cells failed"):
        trained(workspace, night_of(room), told, plan)
    path.write_bytes(kept)
    once_more = room.settings.compute.model_copy(update={"attempts": 2})
    workspace = replace(workspace, settings=room.settings.model_copy(update={"compute": once_more}))
    artifact, why, _ = trained(workspace, night_of(room), told, plan)
    assert (artifact is not None, why) == (True, "")


def test_a_reward_without_a_member_for_a_fold_is_none(room: Any, tmp_path: Path) -> None:
    (tmp_path / "fold-0" / "member-0").mkdir(parents=True)
    assert len(score_reward.members(tmp_path, 0)) == 1
    with pytest.raises(DataError, match="no member that may judge fold 1"):
        score_reward.members(tmp_path, 1)


def test_a_cycle_registers_what_it_taught_and_says_so(
    room: Any, workspace: Workspace, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward.reward_evidence, "gather", lambda lake, night: told)
    monkeypatch.setattr(reward, "sit", lambda *_: (None, "promoted"))
    how = TrainParameters(judge_steps=2, judge_members=1)
    trial = reward.co_train(workspace, night_of(room), RefreshParameters(), how, 3, lambda plan: None)
    assert (trial.decision, sum(trial.told.values())) == ("promoted", len(told))
    assert trial.candidate
    registry = Registry(room.store, room.lake)
    row = registry.model(trial.candidate)
    assert (row["role"], row["method"], row["parent"]) == (Role.REWARD, "judge-yes-no", "base")
    assert row["code"] == reward_train.CODE
    uses = room.lake.read("uses", where={"model_id": trial.candidate}).to_pylist()
    (source,) = [Source(dataset=u["dataset"], version=u["version"], digest=u["digest"]) for u in uses]
    assert source.dataset == "reward-lessons"
    monkeypatch.setattr(reward.reward_evidence, "gather", lambda lake, night: {})
    assert reward.co_train(workspace, night_of(room), RefreshParameters(), how, 3, lambda plan: None).told == {}
