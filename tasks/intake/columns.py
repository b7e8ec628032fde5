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
    "patient_name": (
        "patientname", "patients_name", "patient's_name", "pat_name", "name", "full_name", "fullname",
        "patient_full_name", "first_name", "firstname", "given_name", "forename", "patient_first_name", "middle_name",
        "last_name", "lastname", "family_name", "surname", "maiden_name", "patient_last_name", "patient_surname",
        "vorname", "nachname",
    ),
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
IDENTIFYING = ("file", "patient_id", "patient_name", "group_id")
"""These never come in as they stand; of a name nothing does, it is only looked for in the reports."""
NOTHING = "everything taken in before; nothing of this folder"


@dataclass(frozen=True)
class Chosen:
    """`taken` maps our names and kept columns to theirs; a kept column is named as it is there."""

    taken: dict[str, str]
    kept: tuple[str, ...]
    left_out: tuple[str, ...]
    """Nothing of these comes in."""
    naming: tuple[str, ...] = ()
    """Those of the left out that name the patient: first and last names are often two."""


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
            if ours != "patient_name" and (theirs := self._column(ours, present, where)) is not None:
                taken[ours] = theirs
        if missing := [ours for ours in REQUIRED if ours not in taken]:
            raise DataError(
                f"the labels have no column {' and no column '.join(missing)}",
                where=_described(present, where, bool(taken)),
                kept=NOTHING,
                next_command=f"medgr2 ingest FOLDER --labels FILE --column {missing[0]}=THEIR_COLUMN",
            )
        naming = self._naming(present, taken, where)
        kept = tuple(self._kept(name, present, taken, naming, where) for name in self.keep)
        used = {*taken.values(), *kept}
        taken.update({name: name for name in kept})
        return Chosen(taken, kept, tuple(name for name in present if name and name not in used), naming)

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

    def _naming(self, present: Sequence[str], taken: dict[str, str], where: str) -> tuple[str, ...]:
        """All columns with the patient's name. A mistake costs a word of a report, so nobody has to choose one."""
        if "patient_name" not in self.mapping:
            words = ("patient_name", *SYNONYMS["patient_name"])
            return tuple(name for name in present if _plain(name) in words and name not in taken.values())
        if not (theirs := self.mapping["patient_name"]):
            return ()
        found = _found(theirs, present, where, "mapped to patient_name")
        if stored := [ours for ours, column in taken.items() if column == found and ours not in IDENTIFYING]:
            raise UsageError(
                f"the column {found!r} is mapped to patient_name and to {stored[0]}: a name never comes in",
                where=where,
                next_command=f"leave --column {stored[0]}={theirs} or --column patient_name={theirs} away",
            )
        return (found,)

    def _kept(self, name: str, present: Sequence[str], taken: dict[str, str], naming: Sequence[str], where: str) -> str:
        found = _found(name, present, where, "to be kept")
        if found in naming:
            raise UsageError(
                f"the column {found!r} cannot be kept as a label: a patient_name never comes in",
                where=where,
                next_command=f"leave --keep {found} away, or --column patient_name=  if it names no patient",
            )
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
