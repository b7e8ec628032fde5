"""Yes, No, or nothing: what a verifier's reply is worth."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from medgr2.models.engines.seam import Completion
from medgr2.models.judging import Claim
from medgr2.models.prompts import load_prompt
from medgr2.models.verifier import VERIFY, verdict_of, verify_conversation
from medgr2.schemas.errors import DataError, NotFoundError


def said(text: str, **chances: float) -> float | str:
    return verdict_of(Completion(text, True, 1, likely=tuple((word, math.log(p)) for word, p in chances.items())))


@pytest.mark.parametrize(("text", "found"), [("Yes", 1.0), (" no.\n", 0.0), ("YES", 1.0), ("No", 0.0), ("yes.", 1.0)])
def test_one_word_is_all_or_nothing(text: str, found: float) -> None:
    assert said(text) == found


@pytest.mark.parametrize(
    "text", ["", "Yes, it does", "No doubt: Yes", "**Yes**", '{"answer": "Yes"}', "Y", "yes no", "Maybe", "Yes and No."]
)
def test_everything_else_is_no_verdict(text: str) -> None:
    assert said(text) == said(text, Yes=0.9, No=0.1) == "not_yes_or_no"


def test_chances_weigh_yes_against_no_and_nothing_else() -> None:
    assert said("Yes", Yes=0.6, No=0.2, Perhaps=0.2) == pytest.approx(0.75)
    assert said("No", YES=0.1, yes=0.1, No=0.2, Not=0.5) == pytest.approx(0.5)
    assert said("Yes", Well=0.9) == 1.0  # none of the words is among them
    likely = ((" Yes", math.log(0.3)), (" No", math.log(0.1)))
    assert verdict_of(Completion("Yes", True, 1, likely=likely)) == pytest.approx(0.75)


CLAIM = Claim(Path("p.png"), "What is {answer}?", ("cyst", "nodule {key}", "normal", "fibrosis"), "B", "It is round.")


def test_it_is_asked_about_the_item_and_the_picture_and_nothing_more() -> None:
    talk = verify_conversation(load_prompt(VERIFY), lambda: CLAIM, 7)
    request = next(talk)
    text = request.text
    assert "Question: What is {answer}?\nOptions: A) cyst B) nodule {key} C) normal D) fibrosis\n" in text
    assert "Answer: B) nodule {key}\nReason: It is round.\n" in text
    assert text.endswith("Yes or No.")
    assert (request.image_path, request.temperature, request.seeds, request.form) == (Path("p.png"), 0.0, (7,), None)
    with pytest.raises(StopIteration) as told:
        talk.send(Completion("No.", True, 1))
    assert told.value.value == 0.0


@pytest.mark.parametrize(("problem", "reason"), [(NotFoundError, "image_missing"), (DataError, "image_damaged")])
def test_without_its_picture_nothing_is_asked(problem: type[Exception], reason: str) -> None:
    def gone() -> Claim:
        raise problem("no")

    with pytest.raises(StopIteration) as told:
        next(verify_conversation("{question}", gone, 1))
    assert told.value.value == reason
