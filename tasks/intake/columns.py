"""Which of their columns is which of ours. What nobody asked for stays outside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from medgr2.schemas.errors import DataError, UsageError

SYNONYMS: dict[str, tuple[str, ...]] = {
    "file": (
        "image", "image_name", "image_file", "image_path", "image_index", "img", "img_name", "img_path",
        "path", "file_name", "filename", "file_path", "filepath",
    ),
    "modality": ("modality_type", "imaging_modality", "image_modality", "image_type"),
    "anatomy": ("body_part", "bodypart", "body_part_examined", "anatomical_site", "organ", "image_organ", "region"),
    "diagnosis": ("label", "labels", "class", "dx", "disease", "finding_label", "finding_labels", "target"),
    "grade": ("severity", "stage"),
    "attributes": ("attribute",),
    "report": ("report_text", "radiology_report"),
    "patient_id": ("patient", "patientid", "subject", "subject_id", "subjectid", "participant_id", "mrn"),
    "group_id": ("group", "case_id", "study_id", "lesion_id"),
    "source": ("dataset",),
    "licence": ("license",),
    "split": ("subset", "partition"),
    "question_types": ("question_type",),
}  # fmt: skip
"""Our columns, and what else they are usually called. Case does not matter, and space, '-' and '.' count as '_'."""

NAMES = tuple(SYNONYMS)
REQUIRED = ("file",)
LABELS = ("attributes", "diagnosis", "grade", "question_types")
"""These, and the kept columns, end up together in an image's `labels`."""
IDENTIFYING = ("file", "patient_id", "group_id")
"""These never come in as they stand."""
NOTHING = "everything taken in before; nothing of this folder"


@dataclass(frozen=True)
class Chosen:
    """`taken` maps our names and kept columns to theirs; a kept column is named as it is there."""

    taken: dict[str, str]
    kept: tuple[str, ...]
    left_out: tuple[str, ...]


class Columns(BaseModel):
    """The mapping a person gave. Columns it does not name are found by their usual names, or left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mapping: dict[str, str] = Field(
        default_factory=dict, description="Our name: their column. An empty column means: there is none."
    )
    keep: tuple[str, ...] = Field(default=(), description="Further columns that become labels.")

    @classmethod
    def of(cls, texts: Sequence[str], keep: Sequence[str] = ()) -> Self:
        """From words typed by a person: 'diagnosis=Dx'."""
        mapping: dict[str, str] = {}
        for text in texts:
            ours, equals, theirs = (part.strip() for part in text.partition("="))
            if not equals:
                raise UsageError(f"{text!r} is no column mapping", next_command="--column diagnosis=Dx  (ours=theirs)")
            if ours not in NAMES:
                raise UsageError(
                    f"{ours!r} is none of our columns{_close(ours, NAMES)}",
                    where=f"--column {text}",
                    next_command=f"one of {', '.join(NAMES)}; a further column comes in with --keep {theirs or 'NAME'}",
                )
            if ours in mapping:
                raise UsageError(f"{ours} is mapped twice: to {mapping[ours]!r} and to {theirs!r}")
            mapping[ours] = theirs
        return cls(mapping=mapping, keep=tuple(dict.fromkeys(keep)))

    def choose(self, present: Sequence[str], where: str) -> Chosen:
        """Our columns among those `present`, or an error that says which is missing or ambiguous."""
        taken: dict[str, str] = {}
        for ours in NAMES:
            if (theirs := self._column(ours, present, where)) is not None:
                taken[ours] = theirs
        if missing := [ours for ours in REQUIRED if ours not in taken]:
            raise DataError(
                f"the labels have no column {' and no column '.join(missing)}",
                where=_described(present, where, bool(taken)),
                kept=NOTHING,
                next_command=f"medgr2 ingest FOLDER --labels FILE --column {missing[0]}=THEIR_COLUMN",
            )
        kept = tuple(self._kept(name, present, taken, where) for name in self.keep)
        used = {*taken.values(), *kept}
        taken.update({name: name for name in kept})
        return Chosen(taken, kept, tuple(name for name in present if name and name not in used))

    def _column(self, ours: str, present: Sequence[str], where: str) -> str | None:
        if ours in self.mapping:
            theirs = self.mapping[ours]
            return _found(theirs, present, where, f"mapped to {ours}") if theirs else None
        if ours in present:
            return ours
        plain = {name: _plain(name) for name in present}
        same = [name for name, word in plain.items() if word == ours]
        candidates = same or [name for name, word in plain.items() if word in SYNONYMS[ours]]
        candidates = [name for name in candidates if name not in (*self.mapping.values(), *self.keep)]
        if len(candidates) > 1:
            raise DataError(
                f"{' and '.join(map(repr, candidates))} could each be our column {ours}",
                where=where,
                kept=NOTHING,
                next_command=f"--column {ours}={candidates[0]}, or --column {ours}=  for none of them",
            )
        return candidates[0] if candidates else None

    def _kept(self, name: str, present: Sequence[str], taken: dict[str, str], where: str) -> str:
        found = _found(name, present, where, "to be kept")
        for ours in IDENTIFYING:
            if taken.get(ours) == found:
                raise UsageError(
                    f"the column {found!r} cannot be kept as a label: a {ours} never comes in as it stands",
                    where=where,
                    next_command=f"leave --keep {found} away",
                )
        if found in NAMES:
            raise UsageError(
                f"the column {found!r} cannot be kept as a label: its name is one of ours",
                where=where,
                next_command=f"--column {found}={found}  takes it in as what it is called",
            )
        return found


def _found(name: str, present: Sequence[str], where: str, why: str) -> str:
    if name in present:
        return name
    same = [one for one in present if _plain(one) == _plain(name)]
    if len(same) == 1:
        return same[0]
    raise DataError(
        f"the labels have no column {name!r}, which was {why}{_close(name, present)}",
        where=_described(present, where, any(known(one) for one in present)),
        kept=NOTHING,
        next_command="name a column that is there",
    )


def _described(present: Sequence[str], where: str, named: bool) -> str:
    # A file without a header has a patient's row where the names should be: names are shown only if one is known.
    if named:
        return f"{where}, whose columns are {', '.join(map(repr, present))}"
    return f"{where}, whose first line names {len(present)} columns, none by a name known here"


def known(name: str) -> bool:
    """Is this a usual name of a column?"""
    return _plain(name) in NAMES or any(_plain(name) in words for words in SYNONYMS.values())


def _plain(name: str) -> str:
    return re.sub(r"[\s.\-_]+", "_", name.strip().casefold()).strip("_")


def _close(name: str, among: Sequence[str]) -> str:
    near = get_close_matches(name.casefold(), [one.casefold() for one in among], n=2, cutoff=0.6)
    names = [one for one in among if one.casefold() in near]
    return f" (did you mean {' or '.join(names)}?)" if names else ""
