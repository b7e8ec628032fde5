"""What a night, and a turn of the loop, says about itself: counts only."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from medgr2.schemas.intake_reports import IntakeReport
from medgr2.schemas.reports import AppraisalReport, GenerateReport, PublishReport
from medgr2.schemas.stopping import Spent, Stop


class NightReport(BaseModel):
    """One night in counts."""

    model_config = ConfigDict(frozen=True)

    run: str
    intake: IntakeReport | None
    generate: GenerateReport
    appraisal: AppraisalReport
    publish: PublishReport
    images_waiting: int = 0
    """Training images that were asked for but are not on the list this night began with."""


class Accuracy(BaseModel):
    """Held-out accuracy with its 95% bootstrap interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    def text(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Gain(BaseModel):
    """Share of the items that the candidate wins less the share that it loses, and its 95% interval: paired, and
    resampled by whole images."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    wins: int
    losses: int
    p_value: float

    @property
    def clear(self) -> bool:
        return self.low > 0

    def text(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


class Level(BaseModel):
    """How sure one look at a held-out version has to be, and what of alpha all looks so far have spent."""

    model_config = ConfigDict(frozen=True)

    look: int
    level: float
    spent: float
    alpha: float

    def text(self, heldout: str) -> str:
        return f"look {self.look} at {heldout}: level {self.level:.3g}, spent {self.spent:.3g} of {self.alpha:g}"


class SliceFall(BaseModel):
    """A modality or a question type: share of its items that the candidate loses less the share that it wins."""

    model_config = ConfigDict(frozen=True)

    name: str
    n: int
    fall: float
    most: float | None
    """The largest fall that the items do not rule out, one-sided at the gate's level; None: too few items to tell."""
    p_value: float | None
    """One-sided: that so large a fall is chance."""

    def text(self) -> str:
        most = "too few to tell" if self.most is None else f"at most {self.most:+.3f}"
        return f"{self.name}: fall {self.fall:+.3f}, {most}, over {self.n} items"


class Exam(BaseModel):
    """What the held-out set said of a candidate and of the model it has to beat."""

    model_config = ConfigDict(frozen=True)

    heldout: str
    items: int
    candidate: Accuracy
    champion: Accuracy | None
    blind: float | None
    swapped: float | None
    decision: str
    reasons: tuple[str, ...]
    gain: Gain | None = None
    level: Level | None = None
    slices: tuple[SliceFall, ...] = ()

    def line(self) -> str:
        before = self.champion.text() if self.champion else "none"
        gain = f", gain {self.gain.text()}" if self.gain else ""
        level = f"; {self.level.text(self.heldout)}" if self.level else ""
        return (
            f"held-out accuracy {self.candidate.text()}, before {before}{gain}, blind {self.blind}: "
            f"{self.decision} ({'; '.join(self.reasons)}){level}"
        )


class GateReport(BaseModel):
    """A decision and the numbers behind it."""

    model_config = ConfigDict(frozen=True)

    promote: bool
    reasons: tuple[str, ...]
    audits: int
    auroc: float | None = None
    auroc_before: float | None = None
    gain_low: float | None = None
    """Lower bound of the gain in AUROC, one-sided 90%, paired bootstrap over the items."""
    ece: float | None = None
    precision: float | None = None
    precision_low: float | None = None
    canaries: int = 0
    canaries_rejected: float | None = None


class RewardTrial(BaseModel):
    """What became of the reward that a cycle trained."""

    model_config = ConfigDict(frozen=True)

    told: dict[str, int] = Field(default_factory=dict)
    """Items that hold and that do not, by who says so."""
    candidate: str | None = None
    decision: str
    gate: GateReport | None = None

    def line(self) -> str:
        reasons = f" ({'; '.join(self.gate.reasons)})" if self.gate else ""
        return f"reward: {sum(self.told.values())} items taught it; {self.decision}{reasons}"


class CycleReport(BaseModel):
    """One turn of the loop."""

    model_config = ConfigDict(frozen=True)

    cycle: int
    night: NightReport
    candidate: str | None = None
    exam: Exam | None = None
    decision: str = ""
    generator: str | None = None
    reward: RewardTrial | None = None
    valid_share: float | None = None
    """Of the generator's drafts, by the calibration on audits; those that a gate refused count as not valid."""
    fallen: str = ""
    """How the audited precision fell since the night before, if it did by more than chance: nothing was learned."""
    spent: Spent = Spent()
    cpu_seconds: float | None = None
    """Of the try that finished the cycle; known only where all work is done in one process."""
    stop: Stop | None = None
    """Why the loop ends here; not part of the cycle's record, since other stop rules make it go on."""
    notes: tuple[str, ...] = ()
    """What of the policy's training was left out, and why."""
