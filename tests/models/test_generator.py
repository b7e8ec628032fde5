"""Conversations with a generator: what is asked, what is asked again, and what is done to the options."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medgr2.models.engines.rounds import in_rounds
from medgr2.models.engines.seam import Completion, Exchange, Request
from medgr2.models.generator import Manner, NoDraft, Wish, draft_conversation, shuffle_options
from medgr2.models.prompts import draft_text
from medgr2.models.styles import DEFAULT, EMBEDDED, STYLES
from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.schemas.items import Draft

DRAFT = Draft(question="Where is it?", options=("left", "right", "up", "down"), answer="A", rationale="So left.")
TEXT = draft_text(DRAFT)
IMAGE = "0" * 64
WISH = Wish(IMAGE, lambda: Path("x.png"), "Ask.", 7)
PATIENT = Manner(DEFAULT, 0.7, 1024, repairs=2, repair="Again, because of {reason}.")


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
    assert shuffle_options(turned, IMAGE) == shuffle_options(DRAFT, IMAGE)


def talk(wish: Wish, manner: Manner, *replies: Completion | str) -> tuple[Draft | NoDraft, list[Request]]:
    """The result of a conversation with somebody who says this, in turn, and what was asked."""
    said = [reply if isinstance(reply, Completion) else Completion(reply, True, len(reply)) for reply in replies]
    asked: list[Request] = []

    def answer(requests: object) -> list[Completion]:
        asked.extend(requests)  # type: ignore[call-overload]
        return [said[len(asked) - 1]]

    (held,) = in_rounds(answer, [("one", draft_conversation(wish, manner))], 4)
    assert held.result is not None
    assert len(asked) == len(said), "it asks as often as it needs to, and no more"
    return held.result, asked


def test_a_good_reply_ends_it() -> None:
    found, (request,) = talk(WISH, PATIENT, TEXT)
    assert found == shuffle_options(DRAFT, IMAGE)
    assert (request.text, request.seeds, request.temperature, request.max_new_tokens) == ("Ask.", (7,), 0.7, 1024)
    assert request.form == DEFAULT.form
    assert request.earlier == ()


def test_a_bad_reply_is_asked_for_again_with_its_reason_and_all_that_was_said() -> None:
    cut = Completion(TEXT[:20], False, 1024)
    found, asked = talk(WISH, PATIENT, "no", cut, TEXT)
    assert found == shuffle_options(DRAFT, IMAGE)
    assert [request.text for request in asked[1:]] == ["Again, because of not_json.", "Again, because of truncated."]
    assert asked[2].earlier == (Exchange("Ask.", "no"), Exchange("Again, because of not_json.", TEXT[:20]))
    assert len({request.seeds for request in asked}) == 3


def test_it_gives_up_with_the_last_reason() -> None:
    found, _ = talk(WISH, PATIENT, "no", "no", "{}")
    assert found == NoDraft("schema:question")
    assert not found.final
    found, _ = talk(WISH, Manner(DEFAULT, 0.7, 64), "no")
    assert found == NoDraft("not_json")


def test_who_says_that_it_cannot_be_asked_is_not_asked_again() -> None:
    found, _ = talk(WISH, PATIENT, '{"unsupported": true}')
    assert found == NoDraft("unsupported")
    assert found.final


REPORT = "There is a large mass in the left upper lobe with spiculated margins and no effusion."


@pytest.mark.parametrize("field", ["question", "rationale"])
def test_a_draft_that_repeats_the_report_is_refused(field: str) -> None:
    body = {**DRAFT.model_dump(), field: "See: a LARGE mass, in the left upper lobe with stripes. So left."}
    wish = Wish(IMAGE, lambda: Path("x.png"), "Ask.", 7, REPORT)
    found, asked = talk(wish, PATIENT, json.dumps(body), json.dumps(body), TEXT)
    assert isinstance(found, Draft)
    assert "quotes_report" in asked[1].text
    found, _ = talk(wish, Manner(DEFAULT, 0.7, 64), json.dumps(body))
    assert found == NoDraft("quotes_report")
    assert found.final
    fewer = {**body, field: "See: a large mass, in the left upper part. So left."}
    assert isinstance(talk(wish, PATIENT, json.dumps(fewer))[0], Draft)


@pytest.mark.parametrize(
    "hidden",
    [
        {"options": [" ".join(REPORT.split()[at : at + 3]) for at in (0, 3, 6)] + ["left"]},
        {"question": "What of " + " ".join(REPORT.split()[:4]), "options": [*REPORT.split()[4:8]]},
        {"rationale": "left: " + "".join(REPORT.split())},
        {"rationale": "left: " + " ".join(REPORT.replace(" ", ""))},
        {"rationale": "left: " + "\u200b".join(REPORT)},
        {"rationale": "left: " + "\u00ad".join(REPORT)},
    ],
    ids=["in the options", "from question to options", "joined", "spaced", "unseen spaces", "soft hyphens"],
)
def test_a_report_is_not_smuggled_out_in_pieces(hidden: dict[str, Any]) -> None:
    wish = Wish(IMAGE, lambda: Path("x.png"), "Ask.", 7, REPORT)
    body = json.dumps({**DRAFT.model_dump(), **hidden})
    assert talk(wish, Manner(DEFAULT, 0.7, 64), body)[0] == NoDraft("quotes_report")


def test_a_draft_that_speaks_of_the_report_is_refused() -> None:
    body = {**DRAFT.model_dump(), "rationale": "According to the clinical report it is left."}
    found, _ = talk(WISH, Manner(DEFAULT, 0.7, 64), json.dumps(body))
    assert found == NoDraft("alludes_to_report")


def test_the_embedded_model_is_read_to_the_letter_and_asked_once() -> None:
    strict = Manner(EMBEDDED, 1.0, 128)
    assert talk(WISH, strict, TEXT)[0] == shuffle_options(DRAFT, IMAGE)
    assert talk(WISH, strict, f"```{TEXT}```")[0] == NoDraft("not_json")
    assert talk(WISH, strict, Completion(TEXT, False, 128))[0] == NoDraft("truncated")
    assert talk(WISH, strict, TEXT)[1][0].form is None


def test_a_picture_that_is_not_there_costs_itself_only() -> None:
    def missing() -> Path:
        raise NotFoundError("no image")

    def damaged() -> Path:
        raise DataError("damaged")

    wishes = {"gone": missing, "torn": damaged, "fine": lambda: Path("x.png")}
    talks = ((name, draft_conversation(Wish(IMAGE, image, "Ask.", 7), PATIENT)) for name, image in wishes.items())
    held = {one.name: one for one in in_rounds(lambda r: [Completion(TEXT, True, 9)] * len(r), talks, 4)}
    assert held["gone"].result == NoDraft("image_missing", of_the_reply=False)
    assert held["torn"].result == NoDraft("image_damaged", of_the_reply=False)
    assert isinstance(held["fine"].result, Draft)
    assert (held["gone"].usage.calls, held["fine"].usage.calls) == (0, 1)


def test_every_style_has_a_form_that_its_own_prompt_asks_for() -> None:
    for style in STYLES.values():
        if style.form is None:
            assert style.strict
            continue
        assert style.form["required"] == [*filter(None, [style.thinking]), "unsupported", *Draft.model_fields]
