"""The closed word lists of the domain."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class Modality(StrEnum):
    CT = "CT"
    MRI = "MRI"
    XRAY = "X-Ray"
    ULTRASOUND = "Ultrasound"
    DERMOSCOPY = "Dermoscopy"
    FUNDUS = "Fundus Photography"
    OCT = "OCT"
    MICROSCOPY = "Microscopy"


class QuestionType(StrEnum):
    MODALITY = "Modality Recognition"
    ANATOMY = "Anatomy Identification"
    DISEASE = "Disease Diagnosis"
    GRADING = "Lesion Grading"
    ATTRIBUTE = "Other Biological Attributes"


class Split(StrEnum):
    """Where an image may be used. Held-out images never reach generation, training, selection or tuning;
    validation images may choose settings; quarantined ones are used nowhere."""

    TRAIN = "train"
    VALIDATION = "validation"
    HELDOUT = "heldout"
    QUARANTINED = "quarantined"


class Verdict(StrEnum):
    """What became of a row. Every row that enters a stage leaves it as exactly one of these."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"


class Role(StrEnum):
    """What a registered model is for. Each role has one champion."""

    BASE = "base"
    GENERATOR = "generator"
    POLICY = "policy"
    REWARD = "reward"


class Origin(StrEnum):
    GENERATED = "generated"
    HUMAN = "human"


class Flaw(StrEnum):
    """What was made wrong in a good item, so that a judge can learn it and every night can test the judge."""

    WRONG_KEY = "wrong_key"
    """Another option is keyed, and the rationale argues for it."""
    WRONG_KEY_PLAIN = "wrong_key_plain"
    """Another option is keyed; the rationale still argues for the right one."""
    IMAGE_SWAP = "image_swap"
    PERMUTED = "permuted"
    """The options changed places and the letter did not."""
    SYNONYM_DISTRACTOR = "synonym_distractor"
    """A distractor says in other words what the key says: two options are true."""
    LATERALITY = "laterality"
    NEGATION = "negation"
    NUMBER = "number"
    OPPOSITE = "opposite"
    """Degree, course, kind or plane turned: benign and malignant, acute and chronic, mild and severe."""
    OFF_TOPIC = "off_topic"
    INCOHERENT = "incoherent"


AnswerStyle = Literal["think", "no-think", "think-after"]
"""Whether a policy says what it sees before its letter, not at all, or after it."""
LETTERS = ("A", "B", "C", "D", "E")
