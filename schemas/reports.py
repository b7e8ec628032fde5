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

    def line(self) -> str:
        if self.calibration is None:
            return f"score: {self.drafts} drafts, none accepted: {self.uncalibrated_because}"
        return (
            f"score: {self.accepted} of {self.drafts} drafts accepted, {self.rejected} rejected, {self.failed} failed; "
            f"{self.audits} audits, cross-validated AUROC {self.auroc:.3f}, ECE {self.ece:.3f}"
            + (f"; {self.canaries_rejected:.3f} of {self.canaries} canaries rejected" if self.canaries else "")
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


class IngestReport(StageReport):
    """What became of a source, file by file; the fields of its own count pictures."""

    sidecars: int = 0
    """Files beside the pictures that are none: labels, texts."""
    pictures: int = 0
    splits: dict[str, int] = {}
    added: int = 0
    changed: int = 0
    """Held before, with other labels or another fate now."""
    near_duplicates: int = 0
    near_duplicates_of_two_groups: int = 0
    parts_left_out: dict[str, int] = {}
    burned_in: dict[str, int] = {}
    identifiers: dict[str, int] = {}
    """What identified somebody and was removed, by kind and place: counts, never values."""
    reports: int = 0
    """Reports of new and changed pictures that were scrubbed, dropped or kept, as asked."""
    columns_left_out: tuple[str, ...] = ()
    labels_without_a_file: int = 0


class SplitCheck(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    looked_at: int
    violations: int
    examples: tuple[str, ...] = ()


class SplitAudit(BaseModel):
    """What stands between the held-out pictures and everything that is trained on."""

    model_config = ConfigDict(frozen=True)

    images: int
    without_fingerprint: int
    """Taken in by an older release, and not compared: ingest their source again."""
    near_duplicates: int
    checks: tuple[SplitCheck, ...]
    splits: dict[str, dict[str, int]]

    @property
    def violations(self) -> int:
        return sum(check.violations for check in self.checks)


class IntakeReport(BaseModel):
    """What came in: images, and the questions that people wrote."""

    model_config = ConfigDict(frozen=True)

    images: IngestReport
    questions: dict[str, StageReport] = {}
    """By the dataset they went to."""
    questions_left_out: dict[str, int] = {}
    """Rows of a benchmark that hold no question that can be taken, by reason."""
    versions: tuple[str, ...] = ()


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
