"""The failure fixture: a policy that its reward likes better, and that answers worse, does not become the champion.

The reward is the published one, 0.8 R + 0.2 match, and R is sure of questions whose key is A whatever the picture
shows. That can be learned without looking, and practice learns it: the training is real.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from scripted_ward import TYPES, Ward, quiet

from medgr2.infra import versions
from medgr2.infra.workspace import Workspace
from medgr2.models.registry import Registry
from medgr2.schemas.cycle_reports import Exam
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters, TrainParameters
from medgr2.schemas.vocabulary import Origin, QuestionType, Role, Split
from medgr2.tasks import improve, promotion
from medgr2.tasks.night import Night, open_night

Keyed = Callable[[str, dict[str, Any]], dict[str, Any]]
PRACTICE = TrainParameters.model_validate(
    {
        "sft_steps": 60, "sft_learning_rate": 1e-3, "human_share": 0.3, "weighting": "equal", "grpo_steps": 12,
        "grpo_learning_rate": 5e-4, "reward": "paper",
    }
)  # fmt: skip


def practised(ward: Ward, dataset: str, keyed: Keyed, *, sure: float) -> tuple[str, float]:
    """A policy that practised on questions with these keys, of which the reward is so sure; and what it earned."""
    workspace, now = ward.workspace, datetime.now(UTC)
    lake = workspace.lake
    images = lake.read("images", ["image_id", "split"]).to_pylist()
    items = [
        Item.model_validate({"image_id": image, "question_type": kind} | keyed(image, ward.true(image, kind)))
        for image in sorted(row["image_id"] for row in images if row["split"] == Split.TRAIN)
        for kind in map(QuestionType, TYPES)
    ]
    held = [
        one.model_dump(mode="json") | {"item_id": one.item_id, "origin": Origin.GENERATED, "added_at": now}
        for one in items
    ]
    lake.append_new("items", held, key="item_id")
    judged = [
        {"score_id": f"{dataset}{one.item_id}", "item_id": one.item_id, "agree": 0.5, "p_valid": sure, "scored_at": now}
        for one in items
    ]
    lake.append_new("scores", judged, key="score_id")
    run = f"{dataset}/one"
    version = versions.publish(lake, dataset=dataset, add=[one.item_id for one in items], card={}, run=run)
    candidate = improve.train_policy(workspace, opened(workspace, dataset), version, PRACTICE, 3, quiet).model_id
    training = Registry(workspace.store, lake).model(candidate)["metrics"]["training"]
    assert training["method"] == "grpo"
    return candidate, float(training["last_reward"])


def opened(workspace: Workspace, dataset: str) -> Night:
    return open_night(workspace, RefreshParameters(dataset=dataset, night="one"))


def sat(workspace: Workspace, dataset: str, candidate: str) -> Exam:
    night = opened(workspace, dataset)
    return promotion.settle(workspace, night, candidate, promotion.sit(workspace, night, candidate, quiet))


def test_a_worse_policy_with_a_higher_training_reward_is_not_promoted(fresh_ward: Ward) -> None:
    workspace = fresh_ward.workspace
    registry = Registry(workspace.store, workspace.lake)
    honest, earned = practised(fresh_ward, "honest", lambda _, right: right, sure=0.7)
    registry.promote(Role.POLICY, honest, reason="the champion", expected_current=None)
    hacker, more = practised(fresh_ward, "hacked", lambda image, right: fresh_ward.keyed(image, right, "A"), sure=0.95)
    assert more > earned, "its reward likes it better"
    exam = sat(workspace, "hacked", hacker)
    assert exam.champion is not None
    assert exam.gain is not None
    assert exam.candidate.value < exam.champion.value - 0.1, "and it answers worse"
    assert exam.gain.wins < exam.gain.losses
    assert exam.decision == "champion kept"
    assert registry.champion(Role.POLICY) == honest
    assert [move.model_id for move in registry.history(Role.POLICY)] == [honest]
    registered = registry.model(hacker)
    assert registered["role"] == "policy", "it stays registered, with what its reward said of it"
