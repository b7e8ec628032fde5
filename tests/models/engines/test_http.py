"""The HTTP engine against a server that does what servers do: is busy, breaks off, lies, goes away and comes back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from scripted_server import fault, said, serving, text_of

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.http_probe import greet, try_picture
from medgr2.models.engines.seam import Conversation, Held, Request
from medgr2.schemas.errors import NightStoppedError, SettingsError, StorageError


def to(url: str, **more: Any) -> GeneratorSettings:
    return GeneratorSettings.model_validate(
        {"engine": "openai", "model": "one", "url": url, "in_flight": 8, "patience_seconds": 30, **more}
    )


def one(text: str, **more: Any) -> Conversation[str]:
    reply = yield Request(None, text, **more)
    return reply.text


def ask(settings: GeneratorSettings, texts: Iterable[str], **more: Any) -> dict[str, Held[str]]:
    found = HttpEngine(settings, settings.model).hold((text, one(text, **more)) for text in texts)
    return {held.name: held for held in found}


async def echo(_: web.Request, body: dict[str, Any]) -> web.Response:
    return said(text_of(body).upper())


TEXTS = [f"question {n}" for n in range(100)]


def test_every_conversation_ends_once_with_its_own_reply() -> None:
    with serving(echo) as url:
        priced = to(url, price_in=1.0, price_out=2.0)
        found = list(HttpEngine(priced, "one").hold((text, one(text)) for text in TEXTS))
    assert sorted(held.name for held in found) == sorted(TEXTS)
    assert all(held.result == held.name.upper() for held in found)
    usage = found[0].usage
    assert (usage.calls, usage.tokens_in, usage.tokens_out) == (1, 7, 3)
    assert usage.money == pytest.approx(13e-6)
    assert usage.seconds > 0


def test_a_conversation_may_ask_again_and_may_ask_nothing() -> None:
    def twice() -> Conversation[str]:
        first = yield Request(None, "a")
        second = yield Request(None, first.text + "b")
        return second.text

    def never() -> Conversation[str]:
        return "told at once"
        yield

    def faulty() -> Conversation[str]:
        yield Request(None, "x")
        raise ValueError("Jane Doe")

    with serving(echo) as url:
        conversations = [("twice", twice()), None, ("never", never()), ("faulty", faulty())]
        found = {held.name: held for held in HttpEngine(to(url), "one").hold(conversations)}
    assert (found["twice"].result, found["twice"].usage.calls) == ("AB", 2)
    assert (found["never"].result, found["never"].usage.calls) == ("told at once", 0)
    trouble = found["faulty"].trouble
    assert trouble is not None
    assert trouble.reason == "ValueError"
    assert "Jane" not in str(found["faulty"])


def test_as_many_are_in_flight_as_may_be() -> None:
    there, most = 0, Counter[int]()

    async def slow(_: web.Request, body: dict[str, Any]) -> web.Response:
        nonlocal there
        there += 1
        most[there] += 1
        await asyncio.sleep(0.02)
        there -= 1
        return said(text_of(body))

    with serving(slow) as url:
        assert len(ask(to(url, in_flight=64), [f"q{n}" for n in range(640)])) == 640
    assert max(most) == 64


def test_a_feed_that_has_nothing_for_now_is_asked_again() -> None:
    drawn: list[str] = []

    def feed() -> Iterable[tuple[str, Conversation[str]] | None]:
        for text in TEXTS[:20]:
            yield None
            drawn.append(text)
            yield text, one(text)

    with serving(echo) as url:
        assert len(list(HttpEngine(to(url), "one").hold(feed()))) == 20
    assert drawn == TEXTS[:20]


def test_no_more_is_drawn_than_there_are_seats() -> None:
    drawn = 0

    def feed() -> Iterable[tuple[str, Conversation[str]] | None]:
        nonlocal drawn
        for text in TEXTS:
            drawn += 1
            yield text, one(text)

    with serving(echo) as url:
        held = HttpEngine(to(url, in_flight=4), "one").hold(feed())
        next(iter(held))
        assert drawn <= 8
        held.close()  # type: ignore[attr-defined]


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
        found = ask(to(url, patience_seconds=20), ["large", *(f"q{n}" for n in range(600))])
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
            await asyncio.sleep(5)
        return said("ok")

    with serving(silent) as url:
        found = ask(to(url, attempts=3, first_byte_seconds=0.4, patience_seconds=0.5), ["poison", "good"])
    assert found["good"].result == "ok"
    assert found["poison"].trouble is not None
    assert (found["poison"].trouble.reason, "3 tries" in found["poison"].trouble.detail) == ("timeout", True)


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


def test_what_came_before_a_stop_is_told_first() -> None:
    def lost() -> Conversation[str]:
        raise StorageError("the bucket is gone")
        yield

    def at_once() -> Conversation[str]:
        return "told"
        yield

    with serving(echo) as url:
        found = iter(HttpEngine(to(url), "one").hold([("a", at_once()), ("lost", lost()), ("b", at_once())]))
        assert [next(found).name, next(found).name] == ["a", "b"]
        with pytest.raises(StorageError):
            next(found)


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


def test_the_key_is_sent_and_nothing_else_of_ours() -> None:
    headers: list[dict[str, str]] = []

    async def seen(request: web.Request, body: dict[str, Any]) -> web.Response:
        headers.append(dict(request.headers))
        return said("ok")

    with serving(seen) as url:
        ask(to(url, api_key="very-secret"), ["q"])
    assert headers[0]["Authorization"] == "Bearer very-secret"
    assert not any(name.startswith("X-") or name == "Cookie" for name in headers[0])


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


@pytest.mark.parametrize("slow", ["first", "rest"])
def test_a_slow_reply_has_a_deadline(slow: str) -> None:
    async def loris(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if slow == "first":
            await asyncio.sleep(60)
        reply = web.StreamResponse(headers={"Content-Length": "1000"})
        await reply.prepare(request)
        for _ in range(600):
            await reply.write(b" ")
            await asyncio.sleep(0.1)
        return reply

    begun = time.monotonic()
    limits = {"first_byte_seconds": 0.5} if slow == "first" else {"total_seconds": 0.5}
    with serving(loris) as url:
        held = ask(to(url, attempts=1, **limits), ["q"])["q"]
    assert held.trouble is not None
    assert held.trouble.reason == "timeout"
    assert time.monotonic() - begun < 30, "the deadline, not the server, ended it"


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


def test_a_compressed_reply_is_read() -> None:
    async def packed(_: web.Request, body: dict[str, Any]) -> web.Response:
        reply = said("ok" * 500)
        reply.enable_compression(web.ContentCoding.gzip)
        return reply

    with serving(packed) as url:
        assert ask(to(url), ["q"])["q"].result == "ok" * 500


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_a_server_that_goes_away_and_comes_back_loses_no_row() -> None:
    port = free_port()
    found: list[Held[str]] = []

    async def steady(_: web.Request, body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(0.01)
        return said(text_of(body))

    def run(url: str) -> None:
        settings = to(url, attempts=20)
        found.extend(HttpEngine(settings, "one").hold((text, one(text)) for text in TEXTS * 1))

    with serving(steady, port) as url:
        thread = threading.Thread(target=run, args=(url,), daemon=True)
        thread.start()
        time.sleep(0.05)
    time.sleep(1.0)
    with serving(steady, port):
        thread.join(60)
    assert not thread.is_alive()
    assert sorted(held.result or "" for held in found) == sorted(TEXTS)


def test_a_server_that_never_was_is_said_soon() -> None:
    with pytest.raises(NightStoppedError) as stopped:
        ask(to(f"http://127.0.0.1:{free_port()}/v1", patience_seconds=2), TEXTS)
    assert "away" in stopped.value.what
    assert "medgr2 doctor" in stopped.value.next_command


def test_a_server_that_is_only_busy_is_given_up_in_time() -> None:
    async def busy(_: web.Request, body: dict[str, Any]) -> web.Response:
        return fault(503)

    with serving(busy) as url, pytest.raises(NightStoppedError, match="busy"):
        ask(to(url, patience_seconds=2), TEXTS)


def test_a_store_that_is_lost_stops_the_stage_and_no_row_is_blamed() -> None:
    def lost() -> Conversation[str]:
        raise StorageError("the bucket is gone")
        yield

    with serving(echo) as url, pytest.raises(StorageError, match="bucket"):
        list(HttpEngine(to(url), "one").hold([("a", one("a")), ("lost", lost())]))


def test_it_works_where_a_loop_runs_already() -> None:
    async def inside(url: str) -> dict[str, Held[str]]:
        return ask(to(url), TEXTS[:5])

    with serving(echo) as url:
        assert len(asyncio.run(inside(url))) == 5


def test_pictures_are_read_when_their_turn_comes(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    sizes: list[int] = []

    async def seen(_: web.Request, body: dict[str, Any]) -> web.Response:
        sizes.append(len(body["messages"][0]["content"][0]["image_url"]["url"]))
        return said("ok")

    def about(path: Path) -> Conversation[str]:
        reply = yield Request(path, "q")
        return reply.text

    picture.write_bytes(b"\x89PNG" + b"0" * 2_000_000)
    with serving(seen) as url:
        conversations = [(str(n), about(picture)) for n in range(3)] + [("missing", about(tmp_path / "no.png"))]
        found = {h.name: h for h in HttpEngine(to(url), "one", slow_pictures=True).hold(conversations)}
    assert [found[str(n)].result for n in range(3)] == ["ok"] * 3
    assert min(sizes) > 2_600_000
    assert found["missing"].trouble is not None
    assert found["missing"].trouble.reason == "FileNotFoundError"


def test_the_doctor_asks_for_a_colour() -> None:
    async def colour(_: web.Request, body: dict[str, Any]) -> web.Response:
        assert body["messages"][0]["content"][0]["type"] == "image_url"
        return said('{"colour": "green"}')

    with serving(colour) as url:
        assert greet(to(url)).models == ("one", "two")
        assert try_picture(to(url)).in_form
    with serving(echo) as url:
        assert not try_picture(to(url)).in_form
    with pytest.raises(SettingsError, match="no server answers"):
        greet(to(f"http://127.0.0.1:{free_port()}/v1"))
