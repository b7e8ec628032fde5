"""The HTTP engine against a server that refuses: what costs a row, what costs a try, and what stops the stage."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiohttp import web
from asking_http import TEXTS, ask, one, to
from scripted_server import fault, said, serving, text_of

from medgr2.models.engines.http import HttpEngine
from medgr2.schemas.errors import NightStoppedError, SettingsError


def test_a_server_whose_every_reply_is_broken_is_given_up() -> None:
    async def broken(_: web.Request, body: dict[str, Any]) -> web.Response:
        return fault(500)

    with serving(broken) as url, pytest.raises(NightStoppedError):
        ask(to(url, attempts=2, patience_seconds=2), TEXTS)


@pytest.mark.parametrize("status", [200, 500])
def test_a_form_may_be_refused_in_any_way(status: int) -> None:
    forms: list[bool] = []

    async def plain(_: web.Request, body: dict[str, Any]) -> web.Response:
        forms.append("response_format" in body)
        return fault(status, "guided decoding failed") if forms[-1] else said("ok")

    with serving(plain) as url:
        found = ask(to(url, in_flight=1, attempts=1), TEXTS[:3], form={"type": "object"})
    assert all(held.result == "ok" for held in found.values())
    assert forms == [True, False, False, False]


@pytest.mark.parametrize(("status", "reason"), [(500, "http_500"), (502, "http_502"), (504, "http_504")])
def test_a_row_has_so_many_tries(status: int, reason: str) -> None:
    asked: Counter[str] = Counter()

    async def poisoned(_: web.Request, body: dict[str, Any]) -> web.Response:
        text = text_of(body)
        asked[text] += 1
        if text == "poison" or (text == "weak" and asked[text] < 3):
            return fault(status, "Jane Doe")
        return said(text)

    with serving(poisoned) as url:
        found = ask(to(url, attempts=3), [*TEXTS[:10], "poison", "weak"])
    trouble = found["poison"].trouble
    assert trouble is not None
    assert trouble.reason == reason
    assert "Jane" not in trouble.detail
    assert asked["poison"] == 3
    assert found["weak"].result == "weak"
    assert all(found[text].result == text for text in TEXTS[:10])


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_row_is_not_asked_again(status: int) -> None:
    asked: Counter[str] = Counter()

    async def strict(_: web.Request, body: dict[str, Any]) -> web.Response:
        asked[text_of(body)] += 1
        return fault(status, "the report of Jane Doe is too long") if text_of(body) == "bad" else said("ok")

    with serving(strict) as url:
        found = ask(to(url), ["bad", "good"])
    assert found["bad"].trouble is not None
    assert found["bad"].trouble.reason == f"http_{status}"
    assert "Jane" not in str(found["bad"])
    assert asked["bad"] == 1
    assert found["good"].result == "ok"


def test_what_a_server_does_not_know_is_left_out_for_good() -> None:
    forms: list[bool] = []

    async def plain(_: web.Request, body: dict[str, Any]) -> web.Response:
        forms.append("response_format" in body)
        return fault(400, "response_format is not supported") if forms[-1] else said("ok")

    with serving(plain) as url:
        found = ask(to(url, in_flight=1, attempts=1), TEXTS[:10], form={"type": "object"})
        assert all(held.result == "ok" for held in found.values())
        assert forms == [True] + [False] * 10
        ask(to(url, structured="never"), ["q"], form={"type": "object"})
        assert forms[-1] is False


def test_those_that_were_under_way_when_it_was_told_are_asked_again_too() -> None:
    refused = 0

    async def plain(_: web.Request, body: dict[str, Any]) -> web.Response:
        nonlocal refused
        if "response_format" not in body:
            return said("ok")
        refused += 1
        await asyncio.sleep(0.02 * refused)
        return fault(400, "response_format is not supported")

    with serving(plain) as url:
        found = ask(to(url, attempts=1), TEXTS[:20], form={"type": "object"})
    assert refused == 8
    assert all(held.result == "ok" for held in found.values())


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "MEDGR2_GENERATOR__API_KEY"), (403, "MEDGR2_GENERATOR__API_KEY"), (404, "one, two"), (307, "elsewhere")],
)
def test_what_no_row_is_to_blame_for_stops_the_stage(status: int, words: str) -> None:
    async def wrong(_: web.Request, body: dict[str, Any]) -> web.Response:
        return fault(status, Location="http://127.0.0.1:1/v1/chat/completions")

    with serving(wrong) as url, pytest.raises(SettingsError) as stopped:
        ask(to(url, api_key="very-secret"), TEXTS)
    assert words in str(stopped.value)
    assert "very-secret" not in str(stopped.value)


@pytest.mark.parametrize("status", [204, 307, 401, 403, 404])
def test_a_row_that_alone_is_refused_does_not_end_the_night(status: int) -> None:
    async def gateway(_: web.Request, body: dict[str, Any]) -> web.Response:
        return fault(status, "Jane Doe") if text_of(body) == "poison" else said("ok")

    with serving(gateway) as url:
        found = ask(to(url, in_flight=1, attempts=2), [*TEXTS[:3], "poison", *TEXTS[3:6]])
    trouble = found.pop("poison").trouble
    assert trouble is not None
    assert (trouble.reason, "Jane" in trouble.detail) == (f"http_{status}", False)
    assert all(held.result == "ok" for held in found.values())


def test_a_forbidden_row_that_is_asked_first_is_to_blame_where_the_model_is_listed() -> None:
    async def gateway(_: web.Request, body: dict[str, Any]) -> web.Response:
        return fault(403) if text_of(body) == "poison" else said("ok")

    with serving(gateway) as url:
        found = ask(to(url, in_flight=1, attempts=2), ["poison", "good"])
        assert found["good"].result == "ok"
        with pytest.raises(SettingsError):
            ask(to(url, model="another"), ["poison"])


def test_a_key_that_is_withdrawn_stops_the_stage() -> None:
    asked: list[str] = []

    async def until(_: web.Request, body: dict[str, Any]) -> web.Response:
        asked.append(text_of(body))
        return said("ok") if len(asked) <= 50 else fault(401)

    with serving(until) as url:
        found = iter(HttpEngine(to(url), "one").hold((text, one(text)) for text in TEXTS))
        assert [next(found).result for _ in range(50)] == ["ok"] * 50
        with pytest.raises(SettingsError, match="refuses the key"):
            next(found)
    assert len(asked) < 75


@pytest.mark.parametrize(
    ("body", "calls", "tokens"),
    [
        ("not json", 2, 0),
        ('{"choices": []}', 2, 0),
        ('{"choices": [], "usage": {"prompt_tokens": 5}}', 2, 10),
        ('{"error": {"message": "no"}}', 0, 0),
    ],
)
def test_a_reply_that_is_none_is_asked_for_again_and_was_paid_for(body: str, calls: int, tokens: int) -> None:
    asked: Counter[str] = Counter()

    async def broken(_: web.Request, asked_for: dict[str, Any]) -> web.Response:
        text = text_of(asked_for)
        asked[text] += 1
        if text == "always" or asked[text] == 1:
            return web.Response(text=body, content_type="application/json")
        return said("ok")

    with serving(broken) as url:
        found = ask(to(url, attempts=2), ["once", "always"])
    assert found["once"].result == "ok"
    assert found["always"].trouble is not None
    assert found["always"].trouble.reason == "broken_reply"
    assert (found["always"].usage.calls, found["always"].usage.tokens) == (calls, tokens)
    assert (found["once"].usage.calls, found["once"].usage.tokens) == (1 + calls // 2, 10 + tokens // 2)
