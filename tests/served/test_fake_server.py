"""The fake server itself: what tests and benchmarks read from it is only as good as it is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from served import fake_book

from medgr2.models.drafts import read_draft
from medgr2.schemas.items import Draft
from medgr2.schemas.vocabulary import QuestionType

aiohttp = pytest.importorskip("aiohttp", reason="the extra 'http' is not installed")
PROGRAM = Path(__file__).with_name("fake_server.py")
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def begin(*flags: str) -> str:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"

    yield begin
    for process in running:
        process.communicate(timeout=400)
        assert process.returncode in (0, 9), "it ends when its stdin does"


def body(text: str, *parts: Any, **more: Any) -> dict[str, Any]:
    content = [*parts, {"type": "text", "text": text}] if parts else text
    return {"model": "fake", "messages": [{"role": "user", "content": content}], **more}


def ask(url: str, *bodies: dict[str, Any], at_once: int = 1, **headers: str) -> list[tuple[int, Any, dict[str, str]]]:
    """Status, body and headers of each; status 0 where the connection broke."""

    async def all_of_them() -> list[tuple[int, Any, dict[str, str]]]:
        seats = asyncio.Semaphore(at_once)
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=400)) as session:

            async def one(sent: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
                async with seats:
                    try:
                        async with session.post(f"{url}/v1/chat/completions", json=sent) as reply:
                            told = await reply.read()
                            return reply.status, json.loads(told) if told[:1] == b"{" else told, dict(reply.headers)
                    except aiohttp.ClientConnectionError:
                        return 0, None, {}

            return list(await asyncio.gather(*map(one, bodies)))

    return asyncio.run(all_of_them())


def book(url: str, *, clear: bool = False) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        async with aiohttp.ClientSession() as session:
            if clear:
                await session.post(f"{url}/_reset")
            async with session.get(f"{url}/_stats") as reply:
                return dict(await reply.json())

    return asyncio.run(read())


def hold(url: str, most: str = "") -> None:
    urllib.request.urlopen(urllib.request.Request(f"{url}/_hold/{most}", method="POST"), timeout=300).close()


def ask_together(url: str, *bodies: dict[str, Any], come: int) -> list[tuple[int, Any, dict[str, str]]]:
    """None is answered before so many have come."""
    hold(url, "0")
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, url, *bodies, at_once=come)
        while book(url)["requests"] < come:
            assert not asking.done()
            time.sleep(0.01)
        hold(url)
        return asking.result()


def text_in(told: tuple[int, Any, dict[str, str]]) -> str:
    assert told[0] == 200, told
    return str(told[1]["choices"][0]["message"]["content"])


def test_a_reply_follows_from_words_and_pictures_alone(start: Start) -> None:
    first, second = start(), start()
    plain, pictured = body("What is it?"), body("What is it?", PICTURE)
    in_parts = {"model": "fake", "messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}]}]}
    here = [text_in(one) for one in ask(first, plain, pictured, {**plain, "seed": 5, "temperature": 0.1}, in_parts)]
    assert here[0] == here[2] == here[3] != here[1]
    assert [text_in(one) for one in ask(second, plain, pictured)] == here[:2]


@pytest.mark.parametrize("kind", list(QuestionType))
def test_drafts_are_what_a_generator_must_write_and_differ(start: Start, kind: QuestionType) -> None:
    url = start()
    texts = [f'Picture {n}. Write one question of the type "{kind}" about it.' for n in range(40)]
    drafts = [read_draft(text_in(one)) for one in ask(url, *map(body, texts), at_once=8)]
    for draft in drafts:
        assert isinstance(draft, Draft), draft
        assert len(set(draft.options)) == 4
        assert draft.key_text in draft.rationale
    assert len({draft.question for draft in drafts if isinstance(draft, Draft)}) == 40
    assert len({draft.answer for draft in drafts if isinstance(draft, Draft)}) == 4


def test_the_form_that_is_asked_for_is_filled_or_refused(start: Start) -> None:
    fields = {"reflection": {"type": "string"}, "unsupported": {"type": "boolean"}, "question": {"type": "string"}}
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": fields}}}
    ((status, told, _),) = ask(start(), body("Go.", response_format=form))
    written = json.loads(told["choices"][0]["message"]["content"])
    assert (status, list(written)[:2], written["unsupported"]) == (200, ["reflection", "unsupported"], False)
    ((status, told, _),) = ask(start("--no-structured"), body("Go.", response_format=form))
    assert (status, told["error"]["param"]) == (400, "response_format")


def test_tokens_are_counted_and_pictures_have_some(start: Start) -> None:
    (_, plain, _), (_, pictured, _) = ask(start(), body("x" * 400), body("x" * 400, PICTURE))
    assert plain["usage"]["prompt_tokens"] == 100
    assert pictured["usage"]["prompt_tokens"] > 100
    assert plain["usage"]["total_tokens"] == 100 + plain["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("flag", "told"),
    [("--truncated-json", "not_json"), ("--prose", Draft), ("--unsupported", "unsupported")],
)
def test_a_permanent_fault_stays(start: Start, flag: str, told: Any) -> None:
    url = start(flag, "0.5")
    asked = [body(f"Picture {n}.") for n in range(60)]
    rounds = [[text_in(one) for one in ask(url, *asked, at_once=8)] for _ in range(2)]
    assert rounds[0] == rounds[1]
    harmed = book(url)["faults"][flag[2:].replace("-", "_")]
    assert 2 * 15 <= harmed <= 2 * 45
    bare = [text for text in rounds[0] if text.startswith('{"question"') and text.endswith("}")]
    assert len(bare) == 60 - harmed / 2
    for text in set(rounds[0]) - set(bare):
        found = read_draft(text)
        assert found == told if isinstance(told, str) else isinstance(found, told)


def test_a_mended_reply_is_good_unless_the_fault_is_stubborn(start: Start) -> None:
    def mended(*flags: str) -> list[bool]:
        url = start("--truncated-json", "0.99", *flags)
        asked = [body(f"Picture {n}.")["messages"] for n in range(10)]
        again = [{"role": "assistant", "content": "{"}, {"role": "user", "content": "Reply again."}]
        told = ask(url, *({"model": "fake", "messages": [*first, *again]} for first in asked))
        return [isinstance(read_draft(text_in(one)), Draft) for one in told]

    assert sum(mended("--stubborn")) <= 2
    url = start("--truncated-json", "0.5")
    first = body("Picture 0.")["messages"]
    seen = {
        text_in(one).endswith("}")
        for n in range(12)
        for one in ask(url, {"model": "fake", "messages": [*first, {"role": "user", "content": f"Again {n}."}]})
    }
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("flag", "status"),
    [("--http-429", 429), ("--http-503", 503), ("--http-500", 500), ("--reset", 0), ("--bad-body", 200)],
)
def test_a_transient_fault_is_met_so_often_and_no_more(start: Start, flag: str, status: int) -> None:
    url = start(flag, "1", "--times", "2", "--retry-after", "3")
    met = [ask(url, body("Picture 1."))[0] for _ in range(3)]
    assert [one[0] for one in met] == [status, status, 200]
    assert met[0][2].get("Retry-After") == ("3" if status in (429, 503) else None)
    assert isinstance(met[0][1], bytes) == (flag == "--bad-body")
    assert text_in(met[2])
    assert book(url)["completions"] == 1


def test_a_slow_reply_is_slow_once(start: Start) -> None:
    url = start("--slow-first-byte", "1", "--slow-seconds", "0.5")
    ask(url, body("Picture 1."))
    ask(url, body("Picture 1."))
    told = book(url)
    assert (told["faults"], told["completions"]) == ({"slow_first_byte": 1}, 2)
    assert told["seconds_at"]["1"] > 0.4


def test_above_its_capacity_it_refuses_and_its_book_says_so(start: Start) -> None:
    url = start("--capacity", "3")
    statuses = [one[0] for one in ask_together(url, *(body(f"Picture {n}.") for n in range(5)), come=5)]
    assert sorted(statuses) == [200, 200, 200, 429, 429]
    assert (book(url)["in_flight_max"], book(url)["status"]) == (4, {"200": 3, "429": 2})


def test_without_the_key_nothing_is_said(start: Start) -> None:
    url = start("--require-key", "open")
    assert ask(url, body("Go."))[0][0] == 401
    assert ask(url, body("Go."), Authorization="Bearer open")[0][0] == 200
    assert book(url)["requests"] == 1


def test_other_models_and_broken_requests_are_refused(start: Start) -> None:
    (status, told, _), (strange, _, _) = ask(start(), {**body("Go."), "model": "other"}, {"messages": "none"})
    assert (status, told["error"]["code"], strange) == (404, "model_not_found", 400)


def test_what_is_sold_is_logged_also_when_the_buyer_is_gone(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "sold.log"
    url = start("--log", str(log))
    hold(url, "0")

    async def leave() -> None:
        async with aiohttp.ClientSession() as session:

            async def buy() -> None:
                await session.post(f"{url}/v1/chat/completions", json=body("Picture 1."))

            buying = asyncio.create_task(buy())
            while (await asyncio.to_thread(book, url))["requests"] < 1:
                assert not buying.done()
            buying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await buying

    asyncio.run(leave())
    assert log.read_text() == ""
    hold(url)
    ask(url, body("Picture 1."), body("Picture 2."))
    sold = [line.split()[0] for line in log.read_text().splitlines()]
    assert (len(sold), len(set(sold))) == (3, 2)
    assert (book(url)["sold"], book(url)["sold_again"]) == (2, 1)
    assert book(url, clear=True)["requests"] == 0


def test_the_book_knows_how_many_were_in_flight(start: Start) -> None:
    url = start()
    ask_together(url, *(body(f"Picture {n}.") for n in range(8)), come=4)
    told = book(url)
    assert (told["in_flight_max"], told["in_flight"], told["completions"]) == (4, 0, 8)


def test_the_book_knows_how_long_so_many_were_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    now, kept = [0.0], fake_book.Book("")
    monkeypatch.setattr(fake_book, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    for seconds, comes in ((1, True), (2, True), (4, False), (8, True), (16, False), (32, False)):
        now[0] += seconds
        kept.comes() if comes else kept.leaves(200)
    told = kept.stats()
    assert told["seconds_at"] == {"1": 2 + 8 + 32, "2": 4 + 16}
    assert told["steady_seconds_at"] == {"1": 2 + 8, "2": 4}


def test_it_dies_when_it_is_told_to(start: Start) -> None:
    url = start("--die-after", "2")
    ask(url, body("Picture 1."))
    ask(url, body("Picture 2."))
    assert ask(url, body("Picture 3."))[0][0] == 0


def test_a_large_request_in_many_pieces_is_read_whole(start: Start) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    (told,) = ask(start("--echo"), body("Look.", picture))
    assert text_in(told).endswith("Look.")
