"""What a run says about itself: counts only, safe to hand to Prefect, a terminal or a log."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Plan(BaseModel):
    """Printed before anything is spent."""

    model_config = ConfigDict(frozen=True)

    stage: str
    recipe: str
    found: int
    new: int
    reused: int
    retried: int

    def line(self) -> str:
        return f"{self.stage}: {self.new} new, {self.reused} reused, {self.retried} retried ({self.found} in all)"


class StageReport(BaseModel):
    """What came of a stage: found = accepted + rejected + failed, or the run does not go on."""

    model_config = ConfigDict(frozen=True)

    plan: Plan
    accepted: int
    rejected: int
    failed: int
    reasons: dict[str, int]
    seconds: float

    def conserved(self) -> bool:
        return self.plan.found == self.accepted + self.rejected + self.failed

    def line(self) -> str:
        return (
            f"{self.plan.stage}: {self.accepted} accepted, {self.rejected} rejected, {self.failed} failed "
            f"in {self.seconds:.1f} s"
        )


class DatasetVersion(BaseModel):
    """An exact, named set of items. `digest` is the hash of its member ids."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    version: int
    publish_id: str
    digest: str
    items: int
    added: int
    removed: int
    parent: int | None = None
    card: dict[str, object] = {}

    @property
    def ref(self) -> str:
        return f"{self.dataset}@{self.version}"
