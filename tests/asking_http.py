"""Rows asked of a server through the HTTP engine, and one that answers in capitals."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web
from scripted_server import said, text_of

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.seam import Conversation, Held, Request

PATIENT = {"patience_seconds": 300, "connect_seconds": 300}


def to(url: str, **more: Any) -> GeneratorSettings:
    return GeneratorSettings.model_validate(
        {"engine": "openai", "model": "one", "url": url, "in_flight": 8, **PATIENT, **more}
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


@contextlib.contextmanager
def own_port() -> Iterator[int]:
    """Who connects to it is refused, unless a server of ours listens there; no other process is given it meanwhile."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        yield int(s.getsockname()[1])
