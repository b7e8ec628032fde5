"""What a night, and a turn of the loop, says about itself: counts only."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from medgr2.schemas.intake_reports import IntakeReport
from medgr2.schemas.reports import AppraisalReport, GenerateReport, PublishReport


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

    def line(self) -> str:
        before = self.champion.text() if self.champion else "none"
        return (
            f"held-out accuracy {self.candidate.text()}, before {before}, blind {self.blind}: "
            f"{self.decision} ({'; '.join(self.reasons)})"
        )


class CycleReport(BaseModel):
    """One turn of the loop."""

    model_config = ConfigDict(frozen=True)

    cycle: int
    night: NightReport
    candidate: str | None = None
    exam: Exam | None = None
    decision: str = ""
    generator: str | None = None
