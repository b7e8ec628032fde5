"""The table of the loop's ablation: every arm on the same items, and pairs of arms compared item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from medgr2.models.measures import Answer
from medgr2.models.paired_means import compare_sampled, flip_images
from medgr2.schemas.evaluations import SampledGain


@dataclass(frozen=True)
class Sat:
    """What one arm of one seed was given, what that took, and how it answered."""

    name: str
    items: int
    """Generated items that it was trained on."""
    valid: float | None
    """Share of them that the oracle calls valid."""
    steps: int
    cpu_seconds: float
    """Of its training alone; 0 where the training was found finished."""
    answers: Sequence[Answer]
    blank: Sequence[Answer] = ()
    swapped: Sequence[Answer] = ()


class ArmRow(BaseModel):
    """One arm, over all seeds."""

    model_config = ConfigDict(frozen=True)

    name: str
    seeds: int
    n: int
    items: float
    valid: float | None
    steps: int
    cpu_seconds: float
    greedy: float
    avg: float | None
    """Mean share of the answers at temperature 1 that are right; None for an arm that was not asked so."""
    blank: float | None
    swapped: float | None
    greedy_by_seed: tuple[float, ...]
    avg_by_seed: tuple[float, ...]


class Contrast(BaseModel):
    """One arm against another, on the same items of all seeds."""

    model_config = ConfigDict(frozen=True)

    arm: str
    against: str
    n: int
    gain: float
    by_seed: tuple[float, ...]
    won: int
    lost: int
    p_value: float
    """Two-sided, by exact sign flips of whole images: McNemar's, where each has one question."""
    sampled: SampledGain | None
    """At temperature 1, where both were asked so."""

    @property
    def name(self) -> str:
        return f"{self.arm} - {self.against}"

    def row(self) -> dict[str, Any]:
        """A line of a printed table."""
        told = self.sampled
        return {
            "contrast": self.name,
            **self.model_dump(include={"gain", "won", "lost", "p_value"}),
            "gain_avg": told and told.gain,
            "avg_low": told and told.low,
            "avg_high": told and told.high,
            "avg_p": told and told.p_value,
        }


class Claim(BaseModel):
    """What was asked of the numbers, and whether they give it."""

    model_config = ConfigDict(frozen=True)

    asked: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Table:
    seeds: Sequence[Mapping[str, Sat]] = field(default_factory=tuple)

    def arms(self) -> list[ArmRow]:
        return [self._row(name) for name in self.seeds[0]]

    def _row(self, name: str) -> ArmRow:
        sat = [seed[name] for seed in self.seeds]
        greedy = tuple(_share([a.correct for a in one.answers]) for one in sat)
        avg = tuple(_avg(drawn) for one in sat if (drawn := _sampled(one.answers)))
        known = [one.valid for one in sat if one.valid is not None]
        return ArmRow(
            name=name,
            seeds=len(sat),
            n=sum(len(one.answers) for one in sat),
            items=fmean(one.items for one in sat),
            valid=fmean(known) if known else None,
            steps=sat[0].steps,
            cpu_seconds=round(fmean(one.cpu_seconds for one in sat), 1),
            greedy=fmean(greedy),
            avg=fmean(avg) if avg else None,
            blank=_mean_share([one.blank for one in sat]),
            swapped=_mean_share([one.swapped for one in sat]),
            greedy_by_seed=greedy,
            avg_by_seed=avg,
        )

    def contrast(self, arm: str, against: str) -> Contrast:
        mine = [_own(seed[arm].answers, at) for at, seed in enumerate(self.seeds)]
        theirs = [_own(seed[against].answers, at) for at, seed in enumerate(self.seeds)]
        pairs = [list(zip(_sorted(a), _sorted(b), strict=True)) for a, b in zip(mine, theirs, strict=True)]
        won = sum(a.correct and not b.correct for seed in pairs for a, b in seed)
        lost = sum(b.correct and not a.correct for seed in pairs for a, b in seed)
        ours, others = [a for one in mine for a in one], [b for one in theirs for b in one]
        by_seed = tuple(fmean(a.correct - b.correct for a, b in seed) for seed in pairs)
        return Contrast(
            arm=arm,
            against=against,
            n=sum(map(len, pairs)),
            gain=fmean(by_seed),
            by_seed=by_seed,
            won=won,
            lost=lost,
            p_value=flip_images(pair for seed in pairs for pair in seed),
            sampled=compare_sampled(_sampled(ours), _sampled(others)) if _sampled(ours) and _sampled(others) else None,
        )


def _own(answers: Sequence[Answer], seed: int) -> list[Answer]:
    """Worlds of two seeds may not share a name: their items are not the same ones."""
    return [
        Answer(
            f"{seed}/{a.item_id}", f"{seed}/{a.image_id}", a.modality, a.question_type, a.correct, a.parsed, a.sampled
        )
        for a in answers
    ]


def _sorted(answers: Sequence[Answer]) -> list[Answer]:
    return sorted(answers, key=lambda a: a.item_id)


def _sampled(answers: Sequence[Answer]) -> list[Answer]:
    """Those that were also drawn at temperature 1."""
    return [a for a in answers if a.sampled]


def _share(right: Sequence[bool]) -> float:
    return fmean(map(float, right)) if right else 0.0


def _avg(answers: Sequence[Answer]) -> float:
    return fmean(_share(a.sampled) for a in answers)


def _mean_share(conditions: Sequence[Sequence[Answer]]) -> float | None:
    asked = [[a.correct for a in answers] for answers in conditions if answers]
    return fmean(_share(one) for one in asked) if asked else None
