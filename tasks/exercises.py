"""Lessons as a trainer takes them: examples to learn, and prompts to practise on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medgr2.infra.images import ImageStore
from medgr2.models import prompts
from medgr2.models.answer_forms import reply_text
from medgr2.models.grpo import Prompt, in_band
from medgr2.models.sft import Example
from medgr2.models.texts import plain
from medgr2.schemas.items import Draft
from medgr2.schemas.vocabulary import LETTERS, AnswerStyle, Role
from medgr2.tasks.lessons import Judgement, Lesson

EVENED = 3.0
"""At most so many times as often is an item of a rare label visited: of one item alone there is little to learn."""


def examples(
    lessons: Sequence[Lesson],
    images: ImageStore,
    *,
    role: Role,
    template: str,
    human_share: float,
    style: AnswerStyle = "think",
    judged: dict[str, Judgement] | None = None,
    evened: bool = False,
) -> list[Example]:
    """Lessons as replies to learn: a policy learns to answer them, a generator to write them.

    `human_share` of the visits go to questions people wrote, however few those are. Of the other visits each item has
    the same part; with judgements, one in proportion to its p(valid), and none where that was never found out. Evened,
    labels of one question type are visited alike: a filter passes more of those that its scorer is sure of.
    """
    rarity = _rarity([lesson for lesson in lessons if not lesson.human]) if evened else {}
    worth = [1.0 if lesson.human else _worth(judged, lesson) * rarity.get(_label(lesson), 1.0) for lesson in lessons]
    whole = {True: 0.0, False: 0.0}
    for lesson, w in zip(lessons, worth, strict=True):
        whole[lesson.human] += w
    shares = {True: human_share, False: 1 - human_share}
    if not all(whole.values()):
        shares = {True: 1.0, False: 1.0}
    return [
        Example(
            image=images.path(lesson.image_id),
            user=_asked(lesson, role, template),
            assistant=_reply(lesson, role, style),
            weight=shares[lesson.human] * w / (whole[lesson.human] or 1.0),
            item=lesson.item_id,
        )
        for lesson, w in zip(lessons, worth, strict=True)
    ]


def _label(lesson: Lesson) -> tuple[str, str]:
    return lesson.question_type, plain(lesson.draft.options[LETTERS.index(lesson.draft.answer)])


def _rarity(lessons: Sequence[Lesson]) -> dict[tuple[str, str], float]:
    """By label, how many items the commonest of its question type has for each of its own."""
    count = Counter(map(_label, lessons))
    most: dict[str, int] = {}
    for (question_type, _), n in count.items():
        most[question_type] = max(n, most.get(question_type, 0))
    return {label: min(EVENED, most[label[0]] / n) for label, n in count.items()}


def _worth(judged: dict[str, Judgement] | None, lesson: Lesson) -> float:
    if judged is None:
        return 1.0
    judgement = judged.get(lesson.item_id)
    return (judgement.p_valid if judgement else None) or 0.0


def _asked(lesson: Lesson, role: Role, template: str) -> str:
    if role is Role.GENERATOR:
        return prompts.generating_text(template, lesson.question_type, lesson.report)
    return prompts.answering_text(template, lesson.draft.question, lesson.draft.options)


def _reply(lesson: Lesson, role: Role, style: AnswerStyle) -> str:
    if role is Role.GENERATOR:
        return prompts.draft_text(key_first(lesson.draft))
    return reply_text(lesson.draft.rationale, lesson.draft.answer, style)


def key_first(draft: Draft) -> Draft:
    """The key, then its rivals by name. A draft's options are shuffled before anybody sees them, so there is nothing to
    learn from where they stand; and a small writer that has to find its key again by letter forgets how to write."""
    key = draft.options[LETTERS.index(draft.answer)]
    rivals = sorted(option for option in draft.options if option != key)
    return draft.model_copy(update={"options": (key, *rivals), "answer": LETTERS[0]})


def rehearsals(
    lessons: Sequence[Lesson],
    judged: dict[str, Judgement],
    images: ImageStore,
    template: str,
    band: tuple[float, float],
) -> list[Prompt]:
    """Lessons as prompts of GRPO: only those within the difficulty band, where replies still differ.

    A question by people needs a measured pass rate like any other, but no p(valid): its key is taken to be right.
    """
    tried = []
    for lesson in lessons:
        judgement = judged.get(lesson.item_id)
        if judgement is None or not in_band(judgement.agree, *band):
            continue
        quality = 1.0 if lesson.human else judgement.p_valid
        if quality is not None:
            tried.append(
                Prompt(
                    image=images.path(lesson.image_id),
                    user=_asked(lesson, Role.POLICY, template),
                    key=lesson.draft.answer,
                    options=len(lesson.draft.options),
                    quality=quality,
                    item=lesson.item_id,
                )
            )
    return tried
