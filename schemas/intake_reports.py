"""What an intake says about itself: counts only, never a name or a value."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from medgr2.schemas.reports import StageReport


class IngestReport(StageReport):
    """What became of a source, file by file; the fields of its own count pictures."""

    sidecars: int = 0
    """Files beside the pictures that are none: labels, texts."""
    pictures: int = 0
    splits: dict[str, int] = Field(default_factory=dict)
    added: int = 0
    changed: int = 0
    """Held before, with other labels or another fate now."""
    near_duplicates: int = 0
    near_duplicates_of_two_groups: int = 0
    parts_left_out: dict[str, int] = Field(default_factory=dict)
    burned_in: dict[str, int] = Field(default_factory=dict)
    identifiers: dict[str, int] = Field(default_factory=dict)
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
    questions_left_out: dict[str, int] = Field(default_factory=dict)
    """Rows of a benchmark that hold no question that can be taken, by reason."""
    free_questions: dict[str, int] = Field(default_factory=dict)
    """Of a benchmark's exam, as its authors ask it: how many are held, and how many are not, by reason."""
    versions: tuple[str, ...] = ()
