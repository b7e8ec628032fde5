"""The kit of real images: what its labels are called here, who is held out, and the questions that labels answer."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LETTERS = "ABCD"
HELDOUT, SEEDED = 0.4, 0.25
"""Shares of the groups of each source: for the exam, and of the others for the questions that people wrote."""
WRONG, MISSING = 0.25, 0.08
"""How often a report tells another label, and how often none, of each that it should tell."""

MODALITY, ANATOMY, DISEASE = "Modality Recognition", "Anatomy Identification", "Disease Diagnosis"
MODALITIES = ("X-Ray", "CT", "MRI", "Ultrasound", "Dermoscopy", "Microscopy")
ANATOMIES = ("chest", "brain", "breast", "skin", "blood")
DISEASES: dict[str, dict[str, str]] = {
    "X-Ray": {"COVID-19": "COVID-19", "Pneumonia": "pneumonia", "No finding": "no finding"},
    "MRI": {
        "Glioma": "glioma",
        "Meningioma": "meningioma",
        "Pituitary tumour": "pituitary tumour",
        "No tumour": "no tumour",
    },
    "Ultrasound": {
        "Benign breast lesion": "benign breast lesion",
        "Malignant breast lesion": "malignant breast lesion",
        "Normal breast tissue": "normal breast tissue",
    },
    "Dermoscopy": {
        "Benign lesion (naevus or seborrhoeic keratosis)": "naevus or keratosis",
        "Melanoma": "melanoma",
    },
}
"""By modality: what the kit calls a diagnosis, and what it is called here. Of the CT the kit says that the disease is
often not to be seen, so it is asked for modality and anatomy only. Grades are three, and a question has four options;
cells were counted as a lower bound: neither can be asked."""
LABELS = {
    MODALITY: MODALITIES,
    ANATOMY: ANATOMIES,
    DISEASE: tuple(label for labels in DISEASES.values() for label in labels.values()),
}
STEMS = {
    MODALITY: "Which modality is this image?",
    ANATOMY: "Which anatomy is shown?",
    DISEASE: "What is the diagnosis?",
}


@dataclass(frozen=True)
class Picture:
    file: str
    sha256: str
    source: str
    group: str
    truth: dict[str, str]
    """By question type: only what the kit says that its labels support."""


def pictures(kit: Path) -> list[Picture]:
    with (kit / "labels.csv").open(newline="", encoding="utf-8") as lines:
        return [_picture(row) for row in csv.DictReader(lines)]


def _picture(row: dict[str, str]) -> Picture:
    supported = row["question_types"].split(";")
    diseases = DISEASES.get(row["modality"], {})
    truth = {
        MODALITY: row["modality"],
        ANATOMY: row["anatomy"].removeprefix("peripheral "),
        DISEASE: diseases.get(row["diagnosis"], ""),
    }
    known = {kind: label for kind, label in truth.items() if label and kind in supported}
    return Picture(row["file"], row["sha256"], row["source"], row["group_id"], known)


@dataclass(frozen=True)
class Wards:
    """The pictures of one seed, by what they are for. No group is in two of them."""

    heldout: list[Picture]
    seeded: list[Picture]
    silent: list[Picture]
    """For training too, and nobody wrote a question about them."""


def split(found: Sequence[Picture], seed: int) -> Wards:
    """Whole groups, of each source the same shares."""
    groups: dict[str, list[str]] = defaultdict(list)
    for picture in found:
        if picture.group not in groups[picture.source]:
            groups[picture.source].append(picture.group)
    role: dict[str, str] = {}
    rng = random.Random(seed)
    for source in sorted(groups):
        names = sorted(groups[source])
        rng.shuffle(names)
        exam = round(HELDOUT * len(names))
        asked = exam + round(SEEDED * (len(names) - exam))
        role |= {
            name: "heldout" if at < exam else "seeded" if at < asked else "silent" for at, name in enumerate(names)
        }
    by_role: dict[str, list[Picture]] = defaultdict(list)
    for picture in found:
        by_role[role[picture.group]].append(picture)
    return Wards(by_role["heldout"], by_role["seeded"], by_role["silent"])


def questions(of: Iterable[Picture], rng: random.Random) -> list[dict[str, Any]]:
    """What a person would write who has the labels: one question of each type that they support."""
    return [question(picture, kind, rng) for picture in of for kind in picture.truth]


def question(picture: Picture, kind: str, rng: random.Random) -> dict[str, Any]:
    key = picture.truth[kind]
    options = [key, *rivals(picture.truth[MODALITY], kind, key, rng)]
    rng.shuffle(options)
    return {
        "file": picture.file,
        "question_type": kind,
        "question": STEMS[kind],
        "options": options,
        "answer": LETTERS[options.index(key)],
        "rationale": rationale(picture.truth, kind),
    }


def rivals(modality: str, kind: str, key: str, rng: random.Random) -> list[str]:
    """Of a diagnosis one that is told in the same modality and two of one other modality: who knows the modality only
    is left with two options."""
    if kind != DISEASE:
        return rng.sample([label for label in LABELS[kind] if label != key], 3)
    own = [label for label in DISEASES[modality].values() if label != key]
    other = rng.choice([name for name in DISEASES if name != modality])
    return [rng.choice(own), *rng.sample(list(DISEASES[other].values()), 2)]


def rationale(truth: dict[str, str], kind: str) -> str:
    seen = {MODALITY: "{0}", ANATOMY: "{0} of the {1}", DISEASE: "{0} shows {1}"}[kind]
    return f"{seen.format(truth[MODALITY], truth[kind])}, so {truth[kind]}."


def report(picture: Picture, rng: random.Random) -> str:
    """The labels as a careless person would file them: what is told wrongly is told of the same modality, if it can."""
    told = []
    for kind, label in picture.truth.items():
        fate = rng.random()
        others = LABELS[kind] if kind != DISEASE else tuple(DISEASES[picture.truth[MODALITY]].values())
        wrong = rng.choice([one for one in others if one != label])
        if fate >= MISSING:
            told.append(wrong if fate < MISSING + WRONG else label)
    return ", ".join(told)


def key_first(asked: dict[str, Any]) -> dict[str, Any]:
    """In the order that the embedded writer was taught: the key, then its rivals in their usual order."""
    key = asked["options"][LETTERS.index(asked["answer"])]
    labels = LABELS[asked["question_type"]]
    rivals = sorted((option for option in asked["options"] if option != key), key=labels.index)
    return {**asked, "options": [key, *rivals], "answer": LETTERS[0]}
