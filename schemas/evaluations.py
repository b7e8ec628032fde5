"""What an evaluation says of one model on one held-out version."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from medgr2.schemas.cycle_reports import Accuracy, Gain


class PartAccuracy(BaseModel):
    """Of some of the items."""

    model_config = ConfigDict(frozen=True)

    n: int
    accuracy: Accuracy


class SliceAccuracy(PartAccuracy):
    """A modality, or a question type."""

    taught: bool
    """In-domain: the lessons of the model, or of one it came from, hold it."""


class Protocol(BaseModel):
    """Slices of one kind: macro over all of them, over those that the model was taught, and over the others."""

    model_config = ConfigDict(frozen=True)

    macro: float
    in_domain: float | None
    cross_domain: float | None
    slices: dict[str, SliceAccuracy]


class Sampling(BaseModel):
    """avg@n: the mean share of n answers at temperature 1 that are right."""

    model_config = ConfigDict(frozen=True)

    samples: int
    macro: Accuracy
    micro: Accuracy


class ConfidenceBin(BaseModel):
    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Calibrated(BaseModel):
    """Whether a model that is .9 sure is right nine times of ten. Of the answers that could be read: without a letter
    there is no confidence in one."""

    model_config = ConfigDict(frozen=True)

    n: int
    confidence: float
    accuracy: float
    ece: float
    brier: float
    """Mean square of confidence less right or wrong."""
    bins: tuple[ConfidenceBin, ...]
    """Of equal width; those that hold no answer are left out."""


class OtherScorers(BaseModel):
    """The same answers, read by the rules of others. Ours is the one that counts."""

    model_config = ConfigDict(frozen=True)

    vlmevalkit: float
    """Exact matching, without a judge: a letter that stands alone, or the text of one option."""
    lmms_eval: float
    """Multiple choice: the last letter that stands alone; where there is none, what a guess would get on average."""


class OpenAccuracy(BaseModel):
    """Exact match after normalisation, and the tokens in common."""

    model_config = ConfigDict(frozen=True)

    n: int
    exact: Accuracy
    f1: Accuracy
    recall: Accuracy


class Examined(BaseModel):
    """Who was asked what, and how many answers were lost; they count as wrong wherever something is counted."""

    model_config = ConfigDict(frozen=True)

    model: str
    role: str
    method: str
    on: str
    digest: str
    run: str
    n: int
    unreadable: int
    failed: int
    blind: Accuracy | None
    """Right without any picture, of all items."""
    blank: Accuracy | None
    """With a grey one in place of every one."""
    swapped: Accuracy | None
    """With the picture of another patient."""
    controls_failed: int
    listed: str
    """Where the items stand that were not read, or failed."""


class FreeEvaluation(Examined):
    """A benchmark as its authors ask it, without options: closed and open questions apart, as they are published.
    Closed, and all but the F1 and the recall of the open ones: exact match after normalisation."""

    closed: PartAccuracy | None
    open: OpenAccuracy | None
    overall: Accuracy
    by_kind: dict[str, PartAccuracy]
    """By the kind that the authors call a question."""


class SampledGain(BaseModel):
    """What the first of two models has over the second in the mean share of sampled answers that are right."""

    model_config = ConfigDict(frozen=True)

    n: int
    samples: int
    gain: float
    low: float
    high: float
    """95% percentile interval; whole images are resampled."""
    p_value: float
    """Two-sided, by exact sign flips of whole images. One sample an item and one item an image make it McNemar's."""
    better: int
    """Items of which the first answers more samples right."""
    worse: int


class Comparison(BaseModel):
    """The same items, answered by another model."""

    model_config = ConfigDict(frozen=True)

    other: str
    greedy: Gain
    sampled: SampledGain | None


class Evaluation(Examined):
    """Multiple choice."""

    macro: Accuracy
    """Over the modalities, so that a common one does not drown the others."""
    micro: Accuracy
    sampled: Sampling | None
    calibration: Calibrated | None
    """Sure is the chance of the letter, after the model's own thoughts: those have mostly settled it."""
    agreement: Calibrated | None
    """Sure is the share of the sampled answers that say the same letter as the greedy one."""
    by_modality: Protocol
    by_question_type: Protocol
    other_scorers: OtherScorers
    against: Comparison | None
    """The first model that the command names; none for that one itself."""
