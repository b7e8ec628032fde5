"""The case: everything an admission is decided on, and what has been decided so far. Plain columns and sets."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import pyarrow as pa

from medgr2.infra.pictures.fingerprint import comparable
from medgr2.schemas.vocabulary import Split, Verdict
from medgr2.tasks.intake.candidates import Candidates

FACTS = ("modality", "anatomy", "diagnosis", "grade")
"""What two copies of one picture must agree on, wherever both are told."""
TOLD = (
    *FACTS, "report", "source", "licence", "patient_key", "group_key", "split", "labels",
    "header_modality", "header_anatomy", "header_patient", "study", "header",
)  # fmt: skip
HELD = ("image_id", "modality", "anatomy", "labels", "patient_key", "keys", "split", "origin", "fingerprint", "told",
        "reason")  # fmt: skip
DECIDED = "2"
"""Raise it when the same pictures would be decided upon otherwise: all of them are looked at again."""
CONTRADICTING = "contradicting_labels"
Facts: TypeAlias = tuple[str | None, ...]
Hasher: TypeAlias = Callable[[str, str], str]


Elsewhere: TypeAlias = Mapping[str, Sequence[Facts]]
"""By image, what the files of other sources that hold it too say of it."""


class Case:
    def __init__(
        self,
        candidates: Candidates,
        held: pa.Table,
        benchmarks: pa.Table,
        hashed: Hasher,
        elsewhere: Callable[[], Elsewhere] = dict,
    ) -> None:
        files, pictures = candidates.files, candidates.pictures
        self.hashed = hashed
        self.benchmarks = benchmarks
        self.fingerprints = pictures["fingerprint"]
        self.file_of: list[int] = pictures["file"].to_pylist()
        self.image_of: list[str] = pictures["image_id"].to_pylist()
        self.contents: list[str | None] = files["content"].to_pylist()
        self.verdicts: list[str] = files["verdict"].to_pylist()
        self.reasons: list[str] = files["reason"].to_pylist()
        self.told = {name: files[name].to_pylist() for name in (*FACTS, "split", "patient_key", "group_key")}
        self.header = {
            name: files[f"header_{name}"].to_pylist() for name in ("modality", "anatomy", "patient", "number")
        }
        self.study: list[str | None] = files["study"].to_pylist()
        self.problems: list[str | None] = files["problem"].to_pylist()
        self.known: list[bool] = files["known"].to_pylist()
        rows = zip(*(files[name].to_pylist() for name in TOLD), strict=True)
        named = candidates.persons.to_pylist()
        told = (row if not persons else (*row, persons) for row, persons in zip(rows, named, strict=True))
        self.told_digest = [hashed("told", json.dumps([DECIDED, *row], ensure_ascii=False)) for row in told]
        """A keyed hash of all that is told of a file, to see later whether it has changed. The patient's name belongs
        to it: a report is scrubbed again when that is corrected."""
        self.held = {name: held[name].to_pylist() for name in HELD}
        self.held_at = {image: n for n, image in enumerate(self.held["image_id"])}
        self.unfit: set[int] = set()
        """Files whose own labels keep them out: what they say of a picture counts for nothing."""
        self.owner: dict[str, int] = {}
        """image_id -> the picture that brings it."""
        self.held_back: dict[str, tuple[str, str | None]] = {}
        """image_id -> (reason, the image it stands against): in no split, used nowhere."""
        self.splits: dict[str, str] = {}
        self.copied: dict[str, set[str]] = defaultdict(set)
        """image_id -> the keys of further files that hold the same picture."""
        self._elsewhere = elsewhere
        self.counts: Counter[str] = Counter()

    def is_open(self, file: int) -> bool:
        return self.verdicts[file] == Verdict.ACCEPTED

    def refuse(self, file: int, reason: str) -> None:
        self.verdicts[file], self.reasons[file] = Verdict.REJECTED.value, reason

    def hold_back(self, image: str, reason: str, against: str | None) -> None:
        self.held_back.setdefault(image, (reason, against))

    def file(self, image: str) -> int:
        return self.file_of[self.owner[image]]

    def held_value(self, image: str, name: str) -> Any:
        at = self.held_at.get(image)
        return None if at is None else self.held[name][at]

    def in_use(self, image: str) -> bool:
        """Held, and in a split."""
        return self.held_value(image, "split") not in (None, Split.QUARANTINED)

    def is_new(self, image: str) -> bool:
        """Not held, held back so far, told otherwise now, or never comparable: looked at again."""
        return (
            not self.in_use(image)
            or self.held_value(image, "told") != self.told_digest[self.file(image)]
            or not comparable(self.held_value(image, "fingerprint"))
        )

    def keys(self, file: int) -> list[str]:
        """Everything that binds the pictures of this file to others, as keyed hashes."""
        patient, number = self.header["patient"], self.header["number"]
        columns = (self.told["patient_key"], self.told["group_key"], patient, number, self.study)
        return list(dict.fromkeys(key for column in columns if (key := column[file])))

    @cached_property
    def elsewhere(self) -> Elsewhere:
        """Asked for only when it matters: what other sources said of an image still holds."""
        return self._elsewhere()

    def held_keys(self, image: str) -> list[str]:
        patient = self.held_value(image, "patient_key")
        return self.held_value(image, "keys") or ([patient] if patient else [])

    def keys_of(self, image: str) -> list[str]:
        """Of all files known to hold this picture: whoever shared a picture shares a split from then on. Only what is
        corrected in the one source that has it is no longer so."""
        own, said = self.held_keys(image), self.copied.get(image, set())
        if image in self.owner:
            file = self.file(image)
            before, own = set(own).difference(self.keys(file)), self.keys(file)
            if before and (self.held_value(image, "told") == self.told_digest[file] or image in self.elsewhere):
                said = said | before
        return [*own, *sorted(said.difference(own))] if said else own

    def is_another_patients(self, image: str) -> bool:
        """Told of patients, studies or groups now that it was not told of before."""
        retold = self.held_value(image, "told") != self.told_digest[self.file(image)]
        return retold and not set(self.keys(self.file(image))) <= set(self.held_keys(image))

    def origin(self, image: str) -> str | None:
        return self.contents[self.file(image)] if image in self.owner else self.held_value(image, "origin")

    def facts(self, image: str) -> Facts:
        if image in self.owner:
            return self.facts_of_file(self.file(image))
        return self.held_facts(image)

    def facts_of_file(self, file: int) -> Facts:
        return tuple(self.told[name][file] for name in FACTS)

    def held_facts(self, image: str) -> Facts:
        labels = json.loads(self.held_value(image, "labels") or "{}")
        return tuple(self.held_value(image, n) if n in ("modality", "anatomy") else labels.get(n) for n in FACTS)


def contradict(a: Facts, b: Facts) -> bool:
    return any(one is not None and other is not None and one != other for one, other in zip(a, b, strict=True))
