"""Asks a server that is slow, is told to stop in the middle, and says how that went."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.seam import Conversation, Request


def one(text: str) -> Conversation[str]:
    reply = yield Request(None, text)
    return reply.text


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def main(url: str) -> None:
    signal.signal(signal.SIGTERM, stop)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    settings = GeneratorSettings(engine="openai", model="fake", url=url)
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
