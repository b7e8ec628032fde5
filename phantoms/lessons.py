"""The pre-training lessons: pictures drawn once, texts written afresh for every step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medgr2_phantoms.questions import (
    BALANCE,
    CAPTION_PROMPT,
    LETTERS,
    QUESTION_TYPES,
    TOPICS,
    Question,
    ask,
    describe,
    explain,
    fixed_label,
    generating_prompt,
)
from medgr2_phantoms.reports import WRONG, write_report
from medgr2_phantoms.tinyvlm import IMAGE
from medgr2_phantoms.world import Scene, Site, draw, sample_scene

Kind = Literal["captioning", "answering", "generating"]
Style = Literal["long", "clear", "final"]
"""Long rationales and options in any order while letters are learnt, then the final form, at last in fog."""
NO_REPORT = 0.1
NOISE = 0.15
CARELESS: dict[Style, float] = {"long": WRONG["clean"], "clear": WRONG["clean"], "final": 0.05}
# How faint and how clear pictures are in the final form. Who writes is taught to trust the report: what is wrong in it
# then becomes a wrong draft whatever the picture shows, which is what a scorer that looks can find.
CLARITY: dict[Kind, tuple[float, float]] = {"answering": (0.4, 1.0), "generating": (0.0, 0.1)}


@dataclass(frozen=True)
class Album:
    """Scenes with the question type each was sampled for, and their pictures at the model's size."""

    scenes: list[Scene]
    question_types: list[str]
    pictures: npt.NDArray[np.uint8]


def fill_album(count: int, site: Site, seed: int) -> Album:
    """Draw an album; the labels behind each question type come out even."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    scenes, question_types = [], []
    pictures = np.empty((count, 3, IMAGE, IMAGE), dtype=np.uint8)
    for index in range(count):
        question_type = str(rng.choice(QUESTION_TYPES))
        scene = sample_scene(rng, **fixed_label(question_type, rng))
        scenes.append(scene)
        question_types.append(question_type)
        small = draw(scene, site).resize((IMAGE, IMAGE), Image.Resampling.LANCZOS)
        pictures[index] = np.asarray(small).transpose(2, 0, 1)
    return Album(scenes, question_types, pictures)


def lesson(album: Album, index: int, kind: Kind, style: Style, rng: np.random.Generator) -> tuple[str, str]:
    """The user's text and the wanted reply."""
    scene, question_type = album.scenes[index], album.question_types[index]
    if kind == "captioning":
        return CAPTION_PROMPT, describe(scene)
    question = ask(scene, question_type, rng)
    if style == "long":
        question = replace(question, rationale=explain(scene, TOPICS[question_type].key(scene)))
    if kind == "answering":
        return question.prompt(), question.reply()
    report = "" if rng.random() < NO_REPORT else write_report(scene, CARELESS[style], rng)
    return generating_prompt(question_type, report), (key_first(question) if style == "final" else question).written()


def key_first(question: Question) -> Question:
    """The same question in the order that a tiny writer can keep to: the key, then its rivals in their usual order.

    Who uses a draft shuffles its options anyway, so the writer need not learn to scatter them.
    """
    _, labels = BALANCE[question.question_type]
    key = question.options[LETTERS.index(question.answer)]
    rivals = sorted((option for option in question.options if option != key), key=labels.index)
    return replace(question, options=(key, *rivals), answer=LETTERS[0])


def fade(
    pixels: npt.NDArray[np.float32], clarity: tuple[float, float], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Pictures washed out to differing degrees, as if in fog: 1 leaves one as it is, 0 nothing of it."""
    kept = rng.uniform(*clarity, size=(len(pixels), 1, 1, 1)).astype(np.float32)
    mean = pixels.mean(axis=(2, 3), keepdims=True)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return mean + kept * (pixels - mean) + NOISE * (1.0 - kept) * noise


@dataclass(frozen=True)
class Batch:
    """One padded batch; labels are -100 outside the reply."""

    input_ids: Any
    attention_mask: Any
    labels: Any
    pixel_values: Any


def make_batch(
    album: Album, indices: npt.NDArray[np.int64], kind: Kind, style: Style, tokenizer: Any, rng: np.random.Generator
) -> Batch:
    """Texts in the chat template's exact tokens, without the processor's per-image work."""
    import torch

    frame = "<fake_token_around_image><global-img>" + "<image>" * 4 + "<fake_token_around_image>"
    prompts, replies = [], []
    for index in indices:
        user, reply = lesson(album, int(index), kind, style, rng)
        prompts.append(f"<|user|>{frame}{user}<end_of_utterance><|assistant|>")
        replies.append(f"{reply}<end_of_utterance>")
    asked, said = tokenizer(prompts)["input_ids"], tokenizer(replies)["input_ids"]
    width = max(len(a) + len(b) for a, b in zip(asked, said, strict=True))
    ids = np.full((len(indices), width), tokenizer.pad_token_id, dtype=np.int64)
    labels, mask = np.full_like(ids, -100), np.zeros_like(ids)
    for row, (a, b) in enumerate(zip(asked, said, strict=True)):
        ids[row, : len(a) + len(b)] = a + b
        labels[row, len(a) : len(a) + len(b)] = b
        mask[row, : len(a) + len(b)] = 1
    pixels = album.pictures[indices].astype(np.float32) / 127.5 - 1.0
    if style == "final" and kind in CLARITY:
        pixels = fade(pixels, CLARITY[kind], rng)
    return Batch(*(torch.from_numpy(part) for part in (ids, mask, labels, pixels[:, None])))
