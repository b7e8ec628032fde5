"""The HTTP engine when it is stopped, and what it holds on to while a server thinks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgr2.infra import interrupts
from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.http_loop import Loop
from medgr2.models.engines.seam import Conversation, Request
from medgr2.schemas.errors import NightStoppedError

HERE = Path(__file__).parent
FAKE = HERE.parents[1] / "served" / "fake_server.py"


@contextlib.contextmanager
def slow_server(milliseconds: int) -> Iterator[str]:
    command = [sys.executable, str(FAKE), "--port", "0", "--latency-ms", str(milliseconds), "--echo"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"
        finally:
            server.terminate()
            server.wait(120)


@pytest.mark.parametrize("where", ["alone", "inside"])
def test_it_stops_at_once_and_without_noise(where: str) -> None:
    with slow_server(3_600_000) as url:
        command = [sys.executable, "-X", "dev", str(HERE / "interrupted_driver.py"), f"{url}/v1", where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
    # The loop tells of each step during which the machine stood still.
    noise = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert noise == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy", ["the caller", "the engine"])
def test_what_came_back_is_handed_over_before_a_signal_ends_it(number: signal.Signals, busy: str) -> None:
    """The signal comes while one reply is seen to, and more of them have come in that were not handed over."""
    answered, handed, at_stake = [], [], []

    def perhaps_tell(who: str, this: list[int]) -> None:
        if who == busy and not at_stake and len(handed) > 8 and {*answered} - {*handed, *this}:
            at_stake.extend({*answered} - {*handed, *this})
            os.kill(os.getpid(), number)

    def numbered(n: int) -> Conversation[str]:
        reply = yield Request(None, f"row {n}")
        answered.append(n)
        perhaps_tell("the engine", [n])
        return reply.text

    def all_of_them(url: str) -> None:
        settings = GeneratorSettings(engine="openai", model="fake", url=f"{url}/v1", in_flight=8)
        with interrupts.end_stage():
            for held in HttpEngine(settings, "fake").hold((str(n), numbered(n)) for n in range(64)):
                handed.append(int(held.name))
                perhaps_tell("the caller", [])
                time.sleep(0.005)

    with slow_server(100) as url, pytest.raises(KeyboardInterrupt, match=number.name):
        all_of_them(url)
    assert at_stake
    assert {*at_stake} < {*handed}
    assert sorted(answered) == sorted(handed)
    assert len(handed) == len({*handed}) < 64


def test_pictures_do_not_stay_while_the_server_thinks(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG" + bytes(1 << 20))
    waiting, most = 16, 6 << 20  # sixteen pictures, encoded, are 22 MB

    def about() -> Conversation[str]:
        reply = yield Request(picture, "q")
        return reply.text

    def hold(url: str) -> None:
        settings = GeneratorSettings(
            engine="openai", model="fake", url=f"{url}/v1", in_flight=waiting, first_byte_seconds=3600,
            total_seconds=3600, connect_seconds=300, patience_seconds=0.5,
        )  # fmt: skip
        with contextlib.suppress(NightStoppedError):  # when the server is gone
            list(HttpEngine(settings, "fake").hold((str(n), about()) for n in range(waiting)))

    def at_the_server(url: str) -> int:
        with urllib.request.urlopen(f"{url}/_stats", timeout=300) as reply:
            return int(json.load(reply)["in_flight"])

    tracemalloc.start()
    try:
        with slow_server(3_600_000) as url:
            held = before = tracemalloc.get_traced_memory()[0]
            holding = threading.Thread(target=hold, args=(url,), daemon=True)
            holding.start()
            while at_the_server(url) < waiting:
                assert holding.is_alive()
                time.sleep(0.05)
            for _ in range(600):  # the last of them may just have been sent
                held = tracemalloc.get_traced_memory()[0]
                if held - before < most:
                    break
                time.sleep(0.05)
        holding.join(400)
    finally:
        tracemalloc.stop()
    assert held - before < most


def test_a_loop_goes_on_after_an_interrupt_that_came_when_a_step_had_just_ended() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    async def ends_before_it() -> None:
        asyncio.get_running_loop().call_soon(interrupt)

    async def goes_on() -> str:
        await asyncio.sleep(0.05)
        return "done"

    with Loop() as loop:
        with pytest.raises(KeyboardInterrupt):
            loop.run(ends_before_it)
        assert loop.run(goes_on) == "done"
