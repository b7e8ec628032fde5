"""What a reward model is taught: claims that hold, and claims that do not.

Those that hold are questions that people wrote, drafts that people called valid, and drafts that the frozen scorer
answers as they are keyed, every time. Others are made of them, each with one known flaw. And there are the
generator's own errors: drafts that people refused, and drafts that the scorer never answers as they are keyed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from medgr2.models.judging import Form
from medgr2.models.perturbation_pool import Pool
from medgr2.models.perturbations import graded, perturbations
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Item


class Witness(StrEnum):
    """Who says so."""

    AUTHOR = "author"
    AUDIT = "audit"
    SCORER = "scorer"


@dataclass(frozen=True, slots=True)
class Witnessed:
    item: Item
    holds: bool
    witness: Witness


@dataclass(frozen=True, slots=True)
class Lesson:
    """`weight` is its share of all visits, up to a factor."""

    item: Item
    target: float
    weight: float


WORTH = {Witness.AUTHOR: 1.0, Witness.AUDIT: 1.0, Witness.SCORER: 0.5}
"""The scorer is sure of some errors too."""
UNCERTAIN = 0.5
"""Of a flaw that could by chance leave the item true."""
HOLDS, SPOILT, ERRORS = 0.5, 0.25, 0.25
"""Shares of the visits. Perturbations alone teach nothing about what a generator really gets wrong."""


def lessons(found: Iterable[Witnessed], pool: Pool, form: Form, seed: int = 0) -> list[Lesson]:
    """The same whatever the order of what was found. `pool` holds what else is asked of which picture."""
    rows = sorted(found, key=lambda one: one.item.item_id)
    return _graded(rows, pool, seed) if form == "head" else _told_apart(rows, pool, seed)


def _told_apart(rows: Sequence[Witnessed], pool: Pool, seed: int) -> list[Lesson]:
    good = [Lesson(one.item, 1.0, WORTH[one.witness]) for one in rows if one.holds]
    errors = [Lesson(one.item, 0.0, WORTH[one.witness]) for one in rows if not one.holds]
    spoilt = [
        Lesson(made.item, 0.0, lesson.weight * (1.0 if made.certain else UNCERTAIN))
        for lesson in good
        for made in perturbations(lesson.item, pool, seed)
    ]
    if not good or not (spoilt or errors):
        raise DataError(
            f"{len(good)} claims hold and {len(spoilt) + len(errors)} do not: nothing can be told apart",
            kept="the reward as it is",
            next_command="publish questions that people wrote, or review a sample: medgr2 review sample --out FILE",
        )
    return [*_share(good, HOLDS), *_share(spoilt, SPOILT), *_share(errors, ERRORS)]


def _graded(rows: Sequence[Witnessed], pool: Pool, seed: int) -> list[Lesson]:
    """The published recipe: rewrites of items that hold, with their grades, and nothing else."""
    return [
        Lesson(item, grade, WORTH[one.witness])
        for one in rows
        if one.holds
        for item, grade in graded(one.item, pool, seed)
    ]


def _share(group: Sequence[Lesson], share: float) -> list[Lesson]:
    whole = sum(lesson.weight for lesson in group)
    return [Lesson(one.item, one.target, one.weight * share / whole) for one in group]
