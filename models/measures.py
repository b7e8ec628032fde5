"""What held-out answers say of a model. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from medgr2.schemas.cycle_reports import Accuracy
from medgr2.schemas.errors import DataError
from medgr2.schemas.evaluations import PartAccuracy, Sampling

RESAMPLES = 2000
BLOCK = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a held-out item. An answer that could not be read is wrong, and stays in every denominator."""

    item_id: str
    image_id: str
    modality: str
    question_type: str
    correct: bool
    parsed: bool
    sampled: tuple[bool, ...] = ()
    """Which answers at temperature 1 were right, where some were drawn."""


class Summary(BaseModel):
    """Accuracies of one model on one held-out version."""

    model_config = ConfigDict(frozen=True)

    n: int
    macro: Accuracy
    """Mean over the modalities, so that a common one does not drown the others."""
    micro: Accuracy
    unparsed: float
    blank: float | None
    """Micro accuracy with a grey picture: what can be answered without looking."""
    swapped: float | None
    """Micro accuracy with another patient's picture."""
    by_modality: dict[str, PartAccuracy]
    by_question_type: dict[str, PartAccuracy]
    sampled: Sampling | None = None
    """The same items at temperature 1."""


def summarise(
    seen: Sequence[Answer], blank: Sequence[Answer] = (), swapped: Sequence[Answer] = (), *, seed: int = 0
) -> Summary:
    if not seen:
        raise DataError("no held-out answer to summarise", next_command="give a held-out version that has items")
    macro, micro = _rated(seen, [float(a.correct) for a in seen], seed)
    return Summary(
        n=len(seen),
        macro=macro,
        micro=micro,
        unparsed=_mean([not a.parsed for a in seen]),
        blank=_mean([a.correct for a in blank]) if blank else None,
        swapped=_mean([a.correct for a in swapped]) if swapped else None,
        by_modality=_parts(seen, "modality", seed),
        by_question_type=_parts(seen, "question_type", seed),
        sampled=_sampled(seen, seed),
    )


def _sampled(seen: Sequence[Answer], seed: int) -> Sampling | None:
    numbers = {len(a.sampled) for a in seen}
    if numbers == {0}:
        return None
    if len(numbers) > 1:
        raise DataError(
            f"some items have {min(numbers)} sampled answers and some {max(numbers)}",
            next_command="evaluate all of them with the same --samples",
        )
    macro, micro = _rated(seen, [_mean(a.sampled) for a in seen], seed)
    return Sampling(samples=numbers.pop(), macro=macro, micro=micro)


def _parts(answers: Sequence[Answer], by: Literal["modality", "question_type"], seed: int) -> dict[str, PartAccuracy]:
    """Accuracy of each slice, with an interval of its own."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(getattr(answer, by), []).append(answer)
    return {name: PartAccuracy(n=len(one), accuracy=share(one, seed)) for name, one in sorted(groups.items())}


def share(answers: Sequence[Answer], seed: int = 0) -> Accuracy:
    """Of the right ones."""
    return mean_of(answers, [float(a.correct) for a in answers], seed)


def mean_of(answers: Sequence[Answer], worth: Sequence[float], seed: int = 0) -> Accuracy:
    """What the answers are worth on average."""
    return _rated(answers, worth, seed)[1]


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0


def _rated(answers: Sequence[Answer], worth: Sequence[float], seed: int) -> tuple[Accuracy, Accuracy]:
    """Macro over the modalities, and micro, with 95% percentile intervals. Whole images are resampled: their questions
    are not independent."""
    images, image = np.unique([a.image_id for a in answers], return_inverse=True)
    modalities, modality = np.unique([a.modality for a in answers], return_inverse=True)
    right = np.zeros((len(images), len(modalities)))
    asked = np.zeros_like(right)
    np.add.at(right, (image, modality), worth)
    np.add.at(asked, (image, modality), 1.0)
    both, rng = np.hstack([right, asked]), np.random.default_rng(seed)
    parts = []
    for start in range(0, RESAMPLES, BLOCK):  # all at once would be gigabytes for a benchmark of 80,000 images
        draws = (rng.integers(len(images), size=len(images)) for _ in range(min(BLOCK, RESAMPLES - start)))
        parts.append(np.stack([np.bincount(drawn, minlength=len(images)) for drawn in draws]) @ both)
    r, n = np.hsplit(np.vstack(parts), 2)
    with np.errstate(invalid="ignore"):
        macro = np.nanmean(r / n, axis=1)
    micro = r.sum(axis=1) / n.sum(axis=1)
    by_modality = (right.sum(axis=0) / asked.sum(axis=0)).tolist()
    return _accuracy(_mean(by_modality), macro), _accuracy(_mean(worth), micro)


def _accuracy(value: float, resampled: np.ndarray) -> Accuracy:
    low, high = percentiles(resampled)
    return Accuracy(value=value, low=low, high=high)


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The 95% interval of what was resampled."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
