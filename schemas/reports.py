"""What a run says about itself: counts only, safe to hand to Prefect, a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from medgr2.schemas.probe import BlindProbe, Probed
from medgr2.schemas.usage import NOTHING_USED, Usage


class Plan(BaseModel):
    """Printed before anything is spent."""

    model_config = ConfigDict(frozen=True)

    stage: str
    recipe: str
    found: int
    new: int
    reused: int
    retried: int
    because: tuple[str, ...] = ()
    """The parts of the recipe that changed since the stage was done before; none for new inputs."""

    def line(self) -> str:
        because = f" ({listed(self.because)} changed)" if self.because else ""
        return (
            f"{self.stage}: {self.new} new{because}, {self.reused} reused, {self.retried} retried ({self.found} in all)"
        )


def listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


class StageReport(BaseModel):
    """What came of a stage: found = accepted + rejected + failed + left, or the run does not go on."""

    model_config = ConfigDict(frozen=True)

    plan: Plan
    accepted: int
    rejected: int
    failed: int
    reasons: dict[str, int]
    seconds: float
    left: int = 0
    """Cells that were not begun, because the budget was spent."""
    budget: str = ""
    """What was spent of it, where there is one."""
    usage: Usage = NOTHING_USED
    """Of this run."""

    def conserved(self) -> bool:
        return self.plan.found == self.accepted + self.rejected + self.failed + self.left

    def line(self) -> str:
        left = f", {self.left} left: the budget is spent ({self.budget})" if self.left else ""
        return (
            f"{self.plan.stage}: {self.accepted} accepted, {self.rejected} rejected, {self.failed} failed "
            f"in {self.seconds:.1f} s{left}"
        )


class Diversity(BaseModel):
    """How much of the range of questions the drafts of a night use. Shares and entropies lie between 0 and 1."""

    model_config = ConfigDict(frozen=True)

    drafts: int
    looked_at: int
    """For n-grams and near-duplicates: of very many drafts some are enough."""
    question_types: dict[str, int]
    modalities: dict[str, int]
    type_entropy: float
    """1 when all question types that were asked for are equally frequent."""
    modality_entropy: float
    distinct: tuple[float, float, float]
    """Share of different ones among the words, pairs and triples of the questions."""
    near_duplicates: float
    """Share of drafts that say nearly what an earlier one says, whatever the picture."""
    letters: dict[str, int]
    hints: tuple[str, ...] = ()

    def line(self) -> str:
        one, two, three = self.distinct
        told = (
            f"diversity: {self.drafts} drafts, entropy of types {self.type_entropy:.2f} and modalities "
            f"{self.modality_entropy:.2f}, distinct words {one:.3f}, pairs {two:.3f}, triples {three:.3f}, "
            f"near-duplicates {self.near_duplicates:.0%}"
        )
        return "\n".join((told, *self.hints))


class GenerateReport(StageReport):
    """What came of a night's questions to the generator."""

    asked: int = 0
    """So many cells of the night, counted from the first, have been asked."""
    possible: int = 0
    """Cells of the whole night."""
    unsupported: dict[str, int] = {}
    """Questions that no image was asked for, because nothing known of it supports them, by type. Nothing was spent."""
    diversity: Diversity | None = None

    def line(self) -> str:
        without = sum(self.unsupported.values())
        return super().line() + (f"; {without} questions not asked: nothing known supports them" if without else "")


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
    run: str = ""
    card: dict[str, object] = {}

    @property
    def ref(self) -> str:
        return f"{self.dataset}@{self.version}"


class AuditedShare(BaseModel):
    """A share with its 95% interval."""

    model_config = ConfigDict(frozen=True)

    audited: int
    value: float
    low: float
    high: float


class AppraisalReport(BaseModel):
    """What the reward layer made of a night's drafts."""

    model_config = ConfigDict(frozen=True)

    drafts: int
    accepted: int
    rejected: int
    failed: int
    reasons: dict[str, int]
    calibration: str | None
    uncalibrated_because: str
    audits: int
    auroc: float | None
    ece: float | None
    precision: AuditedShare | None = None
    """Of this night's accepted drafts, by those that were audited after they had been drawn at random."""
    mean_p: float | None = None
    """Over the drafts that passed the gates."""
    compared: dict[str, int] = {}
    """Items of each evaluation set that the drafts were compared with; 0: the set is not there."""
    images_not_compared: int = 0
    """Of the drafts, because they have no fingerprint of this release: ingest their source again."""
    canaries: int = 0
    """Known-bad items that were judged beside the drafts."""
    canaries_rejected: float | None = None
    canaries_past_gates: int = 0
    past_gates_rejected: float | None = None
    """The share of these that p(valid) stopped: the rest is the gates' work."""
    alarms: tuple[str, ...] = ()
    unverified_because: str = ""
    """Why the verifier was not asked about every draft; those that it was not asked about failed as `no_verifier`."""

    def line(self) -> str:
        told = self._line()
        return f"{told}; not all of them verified: {self.unverified_because}" if self.unverified_because else told

    def _line(self) -> str:
        if self.calibration is None:
            return f"score: {self.drafts} drafts, none accepted: {self.uncalibrated_because}"
        return (
            f"score: {self.accepted} of {self.drafts} drafts accepted, {self.rejected} rejected, {self.failed} failed; "
            f"{self.audits} audits, cross-validated AUROC {self.auroc:.3f}, ECE {self.ece:.3f}"
            + (f"; {self.canaries_rejected:.3f} of {self.canaries} canaries rejected" if self.canaries else "")
            + ("; compared with no evaluation set: none was taken in" if not any(self.compared.values()) else "")
        )


class PublishReport(BaseModel):
    model_config = ConfigDict(frozen=True)

    drafts: int
    added: int
    left_out: dict[str, int]
    letters: dict[str, int]
    version: DatasetVersion | None
    probe: BlindProbe | None = None
    """What a rule without pictures makes of the batch; None where there was nothing to add."""

    @property
    def refused(self) -> bool:
        """The batch gives its keys away: nothing of it was added."""
        return self.probe is not None and self.probe.verdict is Probed.LEAKS

    def line(self) -> str:
        ref = self.version.ref if self.version else "no version"
        told = f"publish: {self.added} of {self.drafts} drafts added, {ref}"
        return f"{told}\n{self.probe.line()}" if self.probe else told
