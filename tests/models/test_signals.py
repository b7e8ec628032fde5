"""What a look costs: it reads what its signals need, and what they share it reads once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgr2.models.engines.transformers import TransformersEngine
from medgr2.models.prompts import ANSWER, load_prompt
from medgr2.models.signals import LOOKS, SIGNALS, Exam

BASE = Path(__file__).parents[2] / "models" / "base"
ITEMS, MOST_PASSES_TO_SPARE = 8, 1.5
PLACES = ("upper left", "upper right", "lower left", "nowhere", "a fifth place")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(BASE)


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> list[Exam]:
    """Of as many patients; the strangers are pictures that nobody else is shown."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    paths = []
    for i in range(4 * ITEMS):
        paths.append(folder / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, size=(64, 64, 3), dtype=np.uint8)).save(paths[-1])
    questions = ("Where is the finding?", "In which place of the image is the lesion that was found?")
    return [
        Exam(
            image_path=paths[4 * i],
            question=questions[i % 2],
            options=PLACES[: 4 + i % 2],
            answer="ABCD"[i % 4],
            rationale=f"CT of the chest, {PLACES[i % 4]}",
            seed=1000 + i,
            strangers=tuple(paths[4 * i + 1 : 4 * i + 4]),
        )
        for i in range(ITEMS)
    ]


class Work:
    """What the model did: rows of calls that ended prompts, pictures that it saw, and places of sequences."""

    def __init__(self) -> None:
        self.readings = self.pictures = self.places = self.opened = 0

    def note(self, _: Any, __: Any, given: dict[str, Any]) -> None:
        rows, width = given["input_ids"].shape
        self.places += rows * width
        if given.get("pixel_values") is not None:
            self.opened = rows
            self.pictures += rows
            self.readings += rows
        elif given.get("logits_to_keep") == 1:
            self.readings += rows - self.opened


@contextmanager
def watched(engine: TransformersEngine) -> Iterator[Work]:
    work = Work()
    hook = engine.model.register_forward_pre_hook(work.note, with_kwargs=True)
    try:
        yield work
    finally:
        hook.remove()


def work_of(engine: TransformersEngine, name: str, exams: list[Exam], **changed: Any) -> Work:
    look = LOOKS[name]
    with watched(engine) as work:
        look.measure(engine, load_prompt(ANSWER), exams, {**look.parameters, **changed})
    return work


def test_one_reading_serves_the_judged_reply_and_all_samples(engine: TransformersEngine, exams: list[Exam]) -> None:
    work = work_of(engine, "answers", exams)
    assert (work.readings, work.pictures) == (ITEMS, ITEMS)


def test_orders_are_read_behind_what_they_share(engine: TransformersEngine, exams: list[Exam]) -> None:
    work = work_of(engine, "orders", exams)
    assert (work.readings, work.pictures) == (3 * ITEMS, ITEMS)


def test_a_grey_picture_is_looked_at_once_for_all_items(engine: TransformersEngine, exams: list[Exam]) -> None:
    work = work_of(engine, "blind", exams)
    assert (work.readings, work.pictures) == (4 * ITEMS, 3 * ITEMS + 1)


def test_an_item_costs_little_more_than_its_signals_need(engine: TransformersEngine, exams: list[Exam]) -> None:
    """Samples of one token take nothing but their prompt, so what remains are readings: counted in places of
    sequences, padding too, and held against what each item's prompts about a picture do not have in common."""
    from medgr2.models.engines.chats import ChatWriter, open_picture
    from medgr2.models.engines.seam import Request
    from medgr2.models.prompts import answering_text

    short = {"max_new_tokens": 1}
    done = sum(work_of(engine, name, exams, **short).places for name in LOOKS)

    def ids(path: Path, exam: Exam, by: int) -> tuple[int, ...]:
        options = (*exam.options[-by:], *exam.options[:-by]) if by else exam.options
        text = ChatWriter(engine.processor).write(
            Request(path, answering_text(load_prompt(ANSWER), exam.question, options))
        )
        inputs = engine.processor(text=[text], images=[[open_picture(path)]], add_special_tokens=False)
        return tuple(inputs["input_ids"][0])

    needed, lengths = 0, []
    for exam in exams:
        own = [ids(exam.image_path, exam, by) for by in range(4)]
        needed += len({prompt[:n] for prompt in own for n in range(1, len(prompt) + 1)})
        needed += 4 * len(own[0])  # grey, and three strangers
        needed += _length(engine, f"<think>{exam.rationale}</think><answer>{exam.answer}</answer>") - 1
        lengths += list(map(len, own))
    surplus = (done - needed) / (sum(lengths) / len(lengths)) / ITEMS
    assert surplus <= MOST_PASSES_TO_SPARE
    assert surplus > -1  # more is not to be spared: only the grey picture's places are shared between items


def test_every_signal_is_measured_by_one_look(engine: TransformersEngine, exams: list[Exam]) -> None:
    found: dict[str, Any] = {}
    for look in LOOKS.values():
        (record,) = look.measure(engine, load_prompt(ANSWER), exams[:1], look.parameters)
        found |= {name: record[name] for name in look.signals}
    assert tuple(found) == SIGNALS


def _length(engine: TransformersEngine, text: str) -> int:
    return len(engine.processor.tokenizer(text, add_special_tokens=False)["input_ids"])
