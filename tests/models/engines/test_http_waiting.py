"""The HTTP engine against a server that is busy, slow, breaks off, goes away and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from asking_http import TEXTS, ask, one, own_port, to
from scripted_server import fault, said, serving, text_of

from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.seam import Held
from medgr2.schemas.errors import NightStoppedError


def test_as_many_are_in_flight_as_may_be() -> None:
    there, most, full = 0, Counter[int](), asyncio.Event()

    async def slow(_: web.Request, body: dict[str, Any]) -> web.Response:
        nonlocal there
        there += 1
        most[there] += 1
        if there == 64:
            full.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(full.wait(), 200)
        await asyncio.sleep(0.02)
        there -= 1
        return said(text_of(body))

    with serving(slow) as url:
        assert len(ask(to(url, in_flight=64), [f"q{n}" for n in range(640)])) == 640
    assert max(most) == 64


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_costs_nobody_a_try(status: int) -> None:
    asked: Counter[str] = Counter()

    async def busy(_: web.Request, body: dict[str, Any]) -> web.Response:
        text = text_of(body)
        asked[text] += 1
        return fault(status, Retry_After="0") if asked[text] <= 3 and int(text[9:]) % 5 == 0 else said(text)

    with serving(busy) as url:
        found = ask(to(url, attempts=1), TEXTS)
    assert all(held.result == text for text, held in found.items())
    assert max(asked.values()) == 4


def test_a_row_that_alone_is_always_sent_away_does_not_end_the_night(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgr2.models.engines.http_call.backoff", lambda tries, seed: 0.01)
    asked: Counter[str] = Counter()

    async def too_large(_: web.Request, body: dict[str, Any]) -> web.Response:
        asked[text_of(body)] += 1
        await asyncio.sleep(0.02)
        return fault(429) if text_of(body) == "large" else said("ok")

    with serving(too_large) as url:
        found = ask(to(url), ["large", *(f"q{n}" for n in range(600))])
    trouble = found["large"].trouble
    assert trouble is not None
    assert trouble.reason == "http_429"
    assert asked["large"] >= 12
    assert sum(held.result == "ok" for held in found.values()) == 600


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(as_date: bool) -> None:
    times: list[float] = []

    async def later(_: web.Request, body: dict[str, Any]) -> web.Response:
        times.append(time.monotonic())
        # A date has no fractions: two seconds from now are more than one.
        when = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
        return fault(429, Retry_After=when) if len(times) == 1 else said("ok")

    with serving(later) as url:
        assert ask(to(url), ["q"])["q"].result == "ok"
    assert times[1] - times[0] > 0.95


def test_retry_after_holds_for_everybody_when_everybody_is_told() -> None:
    begun, early = time.monotonic(), Counter[str]()

    async def later(_: web.Request, body: dict[str, Any]) -> web.Response:
        if time.monotonic() - begun < 1.5:
            early["all"] += 1
            return fault(429, Retry_After="2")
        return said("ok")

    with serving(later) as url:
        found = ask(to(url, in_flight=4), TEXTS[:40])
    assert all(held.result == "ok" for held in found.values())
    assert early["all"] <= 8, "those at the server, and nobody who came after them"


def test_those_who_wait_for_their_next_try_keep_no_seat() -> None:
    order: list[str] = []

    async def some(_: web.Request, body: dict[str, Any]) -> web.Response:
        text = text_of(body)
        if text in TEXTS[:2] and len(order) < 18:
            return fault(429, Retry_After="1")
        order.append(text)
        return said("ok")

    with serving(some) as url:
        found = ask(to(url, in_flight=2), TEXTS[:20])
    assert len(found) == 20
    assert all(held.result == "ok" for held in found.values())
    assert set(order[-2:]) == set(TEXTS[:2])


def test_one_row_that_is_never_answered_does_not_outlast_patience() -> None:
    async def silent(_: web.Request, body: dict[str, Any]) -> web.Response:
        if text_of(body) == "poison":
            await asyncio.sleep(600)
        return said("ok")

    with serving(silent) as url:
        found = ask(to(url, attempts=3, first_byte_seconds=0.7, patience_seconds=0.8), ["poison", "good"])
    assert found["good"].result == "ok"
    assert found["poison"].trouble is not None
    assert (found["poison"].trouble.reason, "3 tries" in found["poison"].trouble.detail) == ("timeout", True)


def test_a_server_that_goes_away_and_comes_back_loses_no_row() -> None:
    found: list[Held[str]] = []
    answered: list[str] = []
    leaving = threading.Event()

    async def leaves(_: web.Request, body: dict[str, Any]) -> web.Response:
        if len(answered) == 20:
            leaving.set()
            await asyncio.sleep(600)
        answered.append(text_of(body))
        return said(text_of(body))

    async def steady(_: web.Request, body: dict[str, Any]) -> web.Response:
        return said(text_of(body))

    def run(url: str) -> None:
        settings = to(url, attempts=20)
        found.extend(HttpEngine(settings, "one").hold((text, one(text)) for text in TEXTS * 1))

    with own_port() as port:
        with serving(leaves, port) as url:
            thread = threading.Thread(target=run, args=(url,), daemon=True)
            thread.start()
            assert leaving.wait(300)
        time.sleep(1.0)
        with serving(steady, port):
            thread.join(400)
    assert not thread.is_alive()
    assert sorted(held.result or "" for held in found) == sorted(TEXTS)


def test_a_server_that_never_was_is_said_soon() -> None:
    with own_port() as port, pytest.raises(NightStoppedError) as stopped:
        ask(to(f"http://127.0.0.1:{port}/v1", patience_seconds=2), TEXTS)
    assert "away" in stopped.value.what
    assert "medgr2 doctor" in stopped.value.next_command


def test_a_server_that_is_only_busy_is_given_up_in_time() -> None:
    async def busy(_: web.Request, body: dict[str, Any]) -> web.Response:
        return fault(503)

    with serving(busy) as url, pytest.raises(NightStoppedError, match="busy"):
        ask(to(url, patience_seconds=2), TEXTS)


@pytest.mark.parametrize("slow", ["first", "rest"])
def test_a_slow_reply_has_a_deadline(slow: str) -> None:
    async def loris(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if slow == "first":
            await asyncio.sleep(600)
        reply = web.StreamResponse(headers={"Content-Length": "10000"})
        await reply.prepare(request)
        for _ in range(6000):
            await reply.write(b" ")
            await asyncio.sleep(0.1)
        return reply

    begun = time.monotonic()
    limits = {"first_byte_seconds": 0.5} if slow == "first" else {"total_seconds": 0.5}
    with serving(loris) as url:
        held = ask(to(url, attempts=1, **limits), ["q"])["q"]
    assert held.trouble is not None
    assert held.trouble.reason == "timeout"
    assert time.monotonic() - begun < 250, "this deadline, not the other one or the server, ended it"


@pytest.mark.parametrize("packed", [False, True])
def test_a_reply_without_end_is_not_waited_for(packed: bool) -> None:
    async def flood(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        reply = web.StreamResponse()
        if packed:
            reply.enable_compression(web.ContentCoding.gzip)
        await reply.prepare(request)
        while True:
            await reply.write(b" " * (1 << 20))

    with serving(flood) as url:
        held = ask(to(url, attempts=1), ["q"])["q"]
    assert held.trouble is not None
    assert held.trouble.reason == "broken_reply"


def test_a_connection_broken_off_in_the_reply_costs_a_try() -> None:
    async def cut(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Length": "500"})
        await reply.prepare(request)
        await reply.write(b'{"choices"')
        assert request.transport is not None
        request.transport.abort()
        return reply

    with serving(cut) as url:
        held = ask(to(url, attempts=2), ["q"])["q"]
    assert held.trouble is not None
    assert held.trouble.reason in ("broken_reply", "reset")
    assert "2 tries" in held.trouble.detail


def test_an_idle_connection_that_was_closed_costs_no_try() -> None:
    asked = 0

    async def closing(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 2:
            assert request.transport is not None
            request.transport.abort()
        return said("ok")

    with serving(closing) as url:
        found = ask(to(url, attempts=1, in_flight=1), ["a", "b", "c"])
    assert all(held.result == "ok" for held in found.values())
    assert asked == 4
