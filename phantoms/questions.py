"""The five question types, asked truthfully of a scene."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medgr2_phantoms.world import FINDINGS, GRADES, LOOKS, MODALITIES, PLACES, Scene, anatomies

LETTERS = ("A", "B", "C", "D")


@dataclass(frozen=True)
class Topic:
    """One question type: how it is asked, what answers it, and which labels compete for the answer."""

    name: str
    phrasings: tuple[str, ...]
    key: Callable[[Scene], str]
    rivals: Callable[[Scene], tuple[str, ...]]


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(
            "Modality Recognition",
            ("Which modality is this image?", "What imaging modality was used?", "Which modality made this image?"),
            lambda scene: scene.modality,
            lambda _: MODALITIES,
        ),
        Topic(
            "Anatomy Identification",
            ("Which anatomy is shown?", "What body part is seen?", "Which anatomy does the image show?"),
            lambda scene: scene.anatomy,
            lambda scene: anatomies(scene.modality),
        ),
        Topic(
            "Disease Diagnosis",
            ("What is the diagnosis?", "Which diagnosis fits the image?", "What disease is seen?"),
            lambda scene: scene.finding,
            lambda _: FINDINGS,
        ),
        Topic(
            "Lesion Grading",
            ("How serious is the lesion?", "Which grade has the lesion?", "What is the lesion grade?"),
            lambda scene: scene.grade,
            lambda _: GRADES,
        ),
        Topic(
            "Other Biological Attributes",
            ("Where is the finding?", "Which region holds the finding?", "Where is the finding seen?"),
            lambda scene: scene.quadrant,
            lambda _: PLACES,
        ),
    )
}
QUESTION_TYPES = tuple(TOPICS)

# Keys are drawn evenly from these labels and rivals evenly from the rest, so a guess that never looks is at chance.
BALANCE: dict[str, tuple[str, tuple[str, ...]]] = {
    "Modality Recognition": ("modality", MODALITIES),
    "Anatomy Identification": ("anatomy", tuple(dict.fromkeys(a for m in LOOKS for a in anatomies(m)))),
    "Disease Diagnosis": ("finding", FINDINGS),
    "Lesion Grading": ("grade", GRADES),
    "Other Biological Attributes": ("quadrant", PLACES),
}


@dataclass(frozen=True)
class Question:
    """A multiple-choice question with its key and the reason for it."""

    question_type: str
    question: str
    options: tuple[str, ...]
    answer: str
    rationale: str

    def prompt(self) -> str:
        """The text that the answering prompt shows under the image."""
        listed = " ".join(f"{letter}) {option}" for letter, option in zip(LETTERS, self.options, strict=True))
        return f"Question: {self.question} Options: {listed}"

    def reply(self) -> str:
        """The text that the answering prompt asks for."""
        return f"<think>{self.rationale}</think><answer>{self.answer}</answer>"

    def written(self) -> str:
        """The text that the generating prompt asks for: one line of strict JSON."""
        return json.dumps(
            {
                "question": self.question,
                "options": list(self.options),
                "answer": self.answer,
                "rationale": self.rationale,
            }
        )


def describe(scene: Scene) -> str:
    """The dense caption; it names all five attributes, so it entails the key of any true question."""
    return f"{scene.modality} of the {scene.anatomy} shows {scene.finding}, grade {scene.grade}, {scene.quadrant}."


def generating_prompt(question_type: str, report: str) -> str:
    """The text that the generating prompt shows under the image."""
    return f"Task: write one {question_type} question. Report: {report or 'none'}"


def explain(scene: Scene, key: str) -> str:
    """The long rationale, with which letters are learnt: all that is seen, then the answer in words."""
    return f"{describe(scene).removesuffix('.')}, so {key}."


# What each type's rationale says is seen. What was not asked is left out: it could only be wrong.
SEEN: dict[str, str] = {
    "Modality Recognition": "{modality}",
    "Anatomy Identification": "{modality} of the {anatomy}",
    "Disease Diagnosis": "{modality} shows {finding}",
    "Lesion Grading": "{modality}, grade {grade}",
    "Other Biological Attributes": "{modality}, {quadrant}",
}


def conclude(scene: Scene, question_type: str) -> str:
    """The rationale: the modality and what was asked for, then the answer in words, so that the letter only has to
    point at it."""
    return f"{SEEN[question_type].format(**scene.model_dump())}, so {TOPICS[question_type].key(scene)}."


CAPTION_PROMPT = "Describe the image."


def fixed_label(question_type: str, rng: np.random.Generator) -> dict[str, str]:
    """The label that a scene must have so that keys of this type come out even."""
    attribute, labels = BALANCE[question_type]
    return {attribute: str(rng.choice(labels))}


def ask(scene: Scene, question_type: str, rng: np.random.Generator) -> Question:
    """A true question about the scene; the keyed letter is uniform over A to D."""
    topic = TOPICS[question_type]
    key = topic.key(scene)
    rivals = [label for label in topic.rivals(scene) if label != key]
    options = [str(option) for option in rng.permutation(rivals)[:3]]
    place = int(rng.integers(4))
    options.insert(place, key)
    phrasing = topic.phrasings[int(rng.integers(len(topic.phrasings)))]
    return Question(question_type, phrasing, tuple(options), LETTERS[place], conclude(scene, question_type))
