"""Asks a server that is slow, is told to stop when all that it may ask at once is there, and says how that went."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
import urllib.request

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.seam import Conversation, Request


def one(text: str) -> Conversation[str]:
    reply = yield Request(None, text)
    return reply.text


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def when_busy(settings: GeneratorSettings) -> None:
    in_flight = 0
    while in_flight < settings.in_flight:
        time.sleep(0.05)
        with urllib.request.urlopen(f"{settings.url.removesuffix('/v1')}/_stats", timeout=300) as reply:
            in_flight = json.load(reply)["in_flight"]
    os.kill(os.getpid(), signal.SIGTERM)


def main(url: str) -> None:
    signal.signal(signal.SIGTERM, stop)
    # Nothing but the stop ends it before whoever started it has lost his patience.
    settings = GeneratorSettings(
        engine="openai", model="fake", url=url, in_flight=16, first_byte_seconds=3600, total_seconds=3600
    )
    threading.Thread(target=when_busy, args=(settings,)).start()
    try:
        list(HttpEngine(settings, "fake").hold((str(n), one(str(n))) for n in range(100)))
    except KeyboardInterrupt:
        print("stopped", flush=True)


async def inside(url: str) -> None:
    main(url)


if __name__ == "__main__":
    if sys.argv[2] == "inside":
        asyncio.run(inside(sys.argv[1]))
    else:
        main(sys.argv[1])
    gc.collect()
