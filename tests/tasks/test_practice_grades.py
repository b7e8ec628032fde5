"""Practice whose replies the champion reward grades, from the recipe to the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medgr2.infra.artifacts import put_folder
from medgr2.models.grpo import GrpoSettings
from medgr2.models.judging import Claim
from medgr2.models.reward_training import RewardExample, RewardSettings, train_reward
from medgr2.schemas.errors import ConflictError
from medgr2.schemas.parameters import TrainParameters
from medgr2.schemas.vocabulary import Role, Verdict
from medgr2.tasks import practice_grades
from medgr2.tasks.lessons import read_lessons
from medgr2.tasks.reward_folds import FOLDS, folds
from medgr2.tasks.score_reward import place
from medgr2.tasks.train import WORKER, TrainPlan, registration, train_cell, train_recipe
from medgr2.tasks.training_plans import practice_of

BASE = Path(__file__).parents[2] / "models" / "base"


@pytest.fixture(scope="module")
def reward(shared_room: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its artifact."""
    room, folder = shared_room, tmp_path_factory.mktemp("reward")
    paths = [room.images.path(room.picture(n)) for n in range(4)]
    examples = [RewardExample(Claim(p, "Which?", ("a", "b"), "AB"[i % 2], "so"), i % 2) for i, p in enumerate(paths)]
    for fold in range(FOLDS):
        settings = RewardSettings(steps=2, batch=2, warmup_steps=0, learning_rate=1e-3, seed=fold)
        train_reward(BASE, examples, folder / place(fold, 0), settings)
    return put_folder(room.store, folder)


def plan(grader: str) -> TrainPlan:
    return TrainPlan(
        role=Role.POLICY,
        grpo=GrpoSettings(steps=2, prompts=2, generations=4, learning_rate=1e-3, reward="paper", grader=grader),
    )


def test_graded_practice_from_the_recipe_to_the_registry(shared_room: Any, reward: str, monkeypatch: Any) -> None:
    room = shared_room
    items = [room.item(room.picture(n), n) for n in range(8)]
    for item in items:
        room.score(item, 0.5, 0.9)
    source = room.source("nightly", items)
    seen: dict[Path, set[int]] = {}
    real = practice_grades.grading

    class Looking:
        def __init__(self, *args: Any) -> None:
            self._service = real(*args)

        def __enter__(self) -> Any:
            grader = self._service.__enter__()
            grade = grader.grade

            def looked(claims: Any) -> list[float]:
                for claim, fold in claims:
                    seen.setdefault(claim.image_path, set()).add(fold)
                return grade(claims)

            grader.grade = looked
            return grader

        def __exit__(self, *how: Any) -> Any:
            return self._service.__exit__(*how)

    monkeypatch.setattr(practice_grades, "grading", Looking)
    recipe = train_recipe(plan(reward), room.base)
    cell = train_cell(recipe, room.lake, [source])
    outcome = room.run(recipe, WORKER, [cell])[cell.key]
    assert outcome.verdict is Verdict.ACCEPTED, outcome.detail
    fold = folds(room.lake, [lesson.image_id for lesson in read_lessons(room.lake, [source])])
    assert seen == {path: {fold[image]} for image in fold if (path := room.images.path(image)) in seen}
    parent = {"model_id": "base", "artifact": room.base, "role": Role.BASE}
    entry = registration(cell, recipe, outcome, parent=parent, metrics={}, run="night")
    assert entry.reward == f"paper:{cell.inputs['judgements']}:{reward}"
    ungraded = train_recipe(plan(""), room.base)
    assert not {"folds", "grader_device"} & train_cell(ungraded, room.lake, [source]).inputs.keys()
    # A grade is a number of the device that it was computed on.
    assert train_cell(recipe, room.lake, [source], "cuda").key != cell.key
    assert train_cell(ungraded, room.lake, [source], "cuda") == train_cell(ungraded, room.lake, [source])
    assert ungraded.digest != recipe.digest


def test_a_picture_that_changed_its_fold_since_the_plan_is_refused(room: Any, monkeypatch: Any) -> None:
    source = room.source("nightly", [room.item(room.picture(n), n) for n in range(3)])
    lessons = read_lessons(room.lake, [source])
    expected = practice_grades.folds_digest(room.lake, lessons)
    assert practice_grades.claimed([], lessons, room.lake, expected) == []
    monkeypatch.setattr(practice_grades, "folds", lambda lake, images: dict.fromkeys(images, 7))
    with pytest.raises(ConflictError, match="folds of the pictures changed"):
        practice_grades.claimed([], lessons, room.lake, expected)


def test_the_preset_of_the_paper_asks_the_champion_where_there_is_one() -> None:
    graders = [
        practice.grpo.grader
        for practice in (
            practice_of(TrainParameters(preset="paper").settings, 0, "d" * 64),
            practice_of(TrainParameters(preset="paper").settings, 0),
            practice_of(TrainParameters().settings, 0, "d" * 64),
        )
        if practice is not None and practice.grpo is not None
    ]
    assert graders == ["d" * 64, "", ""]
