"""What is asked of the generator, and what is done to its options."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import cast

from medgr2.models.engines.seam import Completion, Request
from medgr2.models.engines.transformers import TransformersEngine
from medgr2.models.generator import Wish, shuffle_options, write_drafts
from medgr2.models.prompts import GENERATE_DIRECT, draft_text, load_prompt
from medgr2.schemas.items import Draft

DRAFT = Draft(question="Where is it?", options=("left", "right", "up", "down"), answer="A", rationale="So left.")


def test_letters_come_out_even_whatever_the_generator_prefers() -> None:
    letters = Counter(shuffle_options(DRAFT, f"{n:064x}").answer for n in range(2000))
    assert set(letters) == set("ABCD")
    assert all(400 < count < 600 for count in letters.values())


def test_the_key_and_the_options_stay() -> None:
    for n in range(50):
        shuffled = shuffle_options(DRAFT, f"{n:064x}")
        assert shuffled.key_text == "left"
        assert sorted(shuffled.options) == sorted(DRAFT.options)
        assert (shuffled.question, shuffled.rationale) == (DRAFT.question, DRAFT.rationale)


def test_the_same_question_in_another_order_is_the_same_draft() -> None:
    turned = DRAFT.model_copy(update={"options": ("up", "left", "down", "right"), "answer": "B"})
    assert shuffle_options(turned, "0" * 64) == shuffle_options(DRAFT, "0" * 64)


class Scripted:
    """An engine that says what it is told and keeps what it was asked."""

    def __init__(self, *completions: Completion) -> None:
        self.completions = completions
        self.asked: list[Request] = []

    def complete(self, requests: list[Request]) -> list[list[Completion]]:
        self.asked += requests
        return [[completion] for completion in self.completions]


def test_drafts_and_reasons_line_up_with_their_wishes() -> None:
    text = draft_text(DRAFT)
    engine = Scripted(Completion(text, True, 30), Completion(text, False, 128), Completion("no", True, 1))
    wishes = [Wish("0" * 64, Path("x.png"), "Lesion Grading", "CT, head", seed) for seed in (4, 5, 6)]
    drafts = write_drafts(
        cast(TransformersEngine, engine), load_prompt(GENERATE_DIRECT), wishes, temperature=0.7, max_new_tokens=128
    )
    assert drafts == [shuffle_options(DRAFT, "0" * 64), "truncated", "not_json"]
    assert [r.seeds for r in engine.asked] == [(4,), (5,), (6,)]
    assert engine.asked[0].text == "Task: write one Lesion Grading question. Report: CT, head"
