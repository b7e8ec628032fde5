"""Who grades the replies of a practising policy: the members of a reward that never saw the picture in question."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from medgr2.infra.lake import Lake
from medgr2.infra.settings import Settings
from medgr2.models.grader import Judge, grading
from medgr2.models.grpo import Grade, Prompt
from medgr2.models.model_ref import materialise
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import ConflictError
from medgr2.tasks.lessons import Lesson
from medgr2.tasks.reward_folds import FOLDS, folds
from medgr2.tasks.score_reward import members


def folds_digest(lake: Lake, lessons: Sequence[Lesson]) -> str:
    """Part of a training's key: which member grades which picture shapes what is learned."""
    return digest_of(sorted(folds(lake, {lesson.image_id for lesson in lessons}).items()))


def claimed(prompts: Sequence[Prompt], lessons: Sequence[Lesson], lake: Lake, expected: str) -> list[Prompt]:
    """The prompts with what makes a claim of a reply, refused when a picture has changed its fold since the plan."""
    if folds_digest(lake, lessons) != expected:
        raise ConflictError("the folds of the pictures changed since the training was planned; plan it again")
    by_id: Mapping[str, Lesson] = {lesson.item_id: lesson for lesson in lessons}
    fold = folds(lake, {lesson.image_id for lesson in lessons})
    return [
        replace(p, question=lesson.draft.question, choices=lesson.draft.options, fold=fold[lesson.image_id])
        for p, lesson in ((p, by_id[p.item]) for p in prompts)
    ]


@contextlib.contextmanager
def graded(reward: str, settings: Settings, device: str) -> Iterator[Grade]:
    folder = materialise(reward, settings).folder
    judge = Judge(reward, {fold: tuple(members(folder, fold)) for fold in range(FOLDS)}, device)
    with grading(judge, settings.training.grader_seconds) as grader:
        yield grader.grade
