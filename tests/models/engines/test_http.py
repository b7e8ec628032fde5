"""The HTTP engine: every conversation is drawn when its turn comes and ends once, with its own reply."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from asking_http import TEXTS, ask, echo, one, own_port, to
from scripted_server import said, serving

from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.http_probe import greet, try_picture
from medgr2.models.engines.seam import Conversation, Held, Request
from medgr2.schemas.errors import SettingsError, StorageError


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


def test_the_key_is_sent_and_nothing_else_of_ours() -> None:
    headers: list[dict[str, str]] = []

    async def seen(request: web.Request, body: dict[str, Any]) -> web.Response:
        headers.append(dict(request.headers))
        return said("ok")

    with serving(seen) as url:
        ask(to(url, api_key="very-secret"), ["q"])
    assert headers[0]["Authorization"] == "Bearer very-secret"
    assert not any(name.startswith("X-") or name == "Cookie" for name in headers[0])


def test_a_compressed_reply_is_read() -> None:
    async def packed(_: web.Request, body: dict[str, Any]) -> web.Response:
        reply = said("ok" * 500)
        reply.enable_compression(web.ContentCoding.gzip)
        return reply

    with serving(packed) as url:
        assert ask(to(url), ["q"])["q"].result == "ok" * 500


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


def test_the_doctor_asks_for_a_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgr2.models.engines.http_probe.PATIENCE_SECONDS", 300.0)

    async def colour(_: web.Request, body: dict[str, Any]) -> web.Response:
        assert body["messages"][0]["content"][0]["type"] == "image_url"
        return said('{"colour": "green"}')

    with serving(colour) as url:
        assert greet(to(url)).models == ("one", "two")
        assert try_picture(to(url)).in_form
    with serving(echo) as url:
        assert not try_picture(to(url)).in_form
    with own_port() as port, pytest.raises(SettingsError, match="no server answers"):
        greet(to(f"http://127.0.0.1:{port}/v1"))
