"""A server with the interface of OpenAI's that costs nothing, for tests and benchmarks. On loopback only.

python tests/served/fake_server.py --port 0 [--latency-ms 50] [--log FILE] [--http-400 0.01] ...

Prints {"port": n} when it listens; ends on SIGTERM, or when its stdin ends. What a request gets depends on what it
asks and, for transient faults, on how often that was asked. GET /_stats is the server's book, POST /_reset a new one.
After POST /_hold/8 and eight completions since it began, whoever asks waits for a POST of another number, or of none.

It speaks no more HTTP than clients of such servers do: one request at a time on a connection, bodies with a length.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fake_book import Book
from fake_contents import PERMANENT, TRANSIENT, Content, Faults, content_of
from fake_drafts import reply_of, spoilt, verdict_of
from pydantic_core import from_json

MODEL = "fake"
WORDS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Server:
    def __init__(self, told: argparse.Namespace) -> None:
        self.told = told
        self.book = Book(told.log)
        self.faults = Faults({kind: getattr(told, kind) for kind in PERMANENT + TRANSIENT}, told.times, told.stubborn)
        self._most = math.inf
        self._held: deque[Callable[[], None]] = deque()

    def hold(self, most: str) -> None:
        self._most = int(most) if most else math.inf
        while self._held and not self.full:
            self._held.popleft()()

    @property
    def full(self) -> bool:
        return self.book.sold_ever >= self._most

    def later(self, serve: Callable[[], None]) -> None:
        self._held.append(serve)

    def seconds(self, content: Content) -> float:
        uneven = 1 + self.told.jitter * (2 * content.share("latency") - 1)
        return float(self.told.latency_ms / 1000 * uneven)

    def written(self, content: Content, body: Mapping[str, Any]) -> tuple[str, str]:
        if self.told.echo:
            return f"{content.digest.hex()[:16]} {content.text[:200]}", "stop"
        form = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
        reply = reply_of(content, form)
        if kind := self.faults.permanent(content):
            self.book.harms(kind)
            return spoilt(kind, content, reply)
        return reply, "stop"


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._whole = 0
        """Bytes of the request that is coming in; 0 while its head is incomplete."""
        self._head: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._whole:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
            length = int(self._header("content-length") or 0)
            self._whole = end + 4 + length
            if self._header("expect"):
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(self._buffer) < self._whole:
            return
        body = bytes(self._buffer[self._buffer.find(b"\r\n\r\n") + 4 : self._whole])
        del self._buffer[: self._whole]
        self._whole = 0
        self._answer(*self._head[0].split(" ")[:2], body)

    def _header(self, name: str) -> str:
        for line in self._head[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return ""

    def _answer(self, method: str, path: str, body: bytes) -> None:
        book = self._server.book
        match method, path.rstrip("/"):
            case "GET", "/_stats":
                self._send(200, book.stats())
            case "POST", "/_reset":
                book.clear()
                self._send(200, {})
            case "POST", hold if hold.startswith("/_hold"):
                self._server.hold(hold.removeprefix("/_hold").lstrip("/"))
                self._send(200, {})
            case "GET", "/v1/models":
                if self._allowed():
                    self._send(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            case "POST", "/v1/chat/completions":
                if self._allowed():
                    self._complete(body)
            case _:
                self._send(404, _error("no such page"))

    def _allowed(self) -> bool:
        key = self._server.told.require_key
        if key and self._header("authorization") != f"Bearer {key}":
            self._send(401, _error("no valid key", code="invalid_api_key"))
            return False
        return True

    def _complete(self, data: bytes) -> None:
        server, book = self._server, self._server.book
        try:
            body = from_json(data)
            content = content_of(body)
        except (ValueError, KeyError, TypeError):
            self._send(400, _error("not a chat", code="invalid_request"))
            return
        if body["model"] != MODEL:
            self._send(404, _error("no such model", code="model_not_found"))
            return
        if server.told.no_structured and body.get("response_format"):
            self._send(400, _error("response_format is not supported", code="unsupported", param="response_format"))
            return
        if server.told.no_logprobs and "logprobs" in body:
            self._send(400, _error("logprobs are not supported with this model", code="unsupported", param="logprobs"))
            return
        before = book.asked[content.digest]
        book.asked[content.digest] += 1
        book.comes()
        if server.told.capacity and book.in_flight > server.told.capacity:
            self._end(429, _error("too many at once"), {"Retry-After": server.told.retry_after})
            return
        fault = server.faults.transient(content, before)
        seconds = server.seconds(content)
        if fault:
            book.harms(fault)
        if fault in ("http_429", "http_503"):
            self._end(int(fault[-3:]), _error("busy"), {"Retry-After": server.told.retry_after})
        elif fault == "slow_first_byte":
            self._loop.call_later(seconds + server.told.slow_seconds, self._serve, content, body, None)
        elif seconds:
            self._loop.call_later(seconds, self._serve, content, body, fault)
        else:
            self._serve(content, body, fault)

    def _serve(self, content: Content, body: Mapping[str, Any], fault: str | None) -> None:
        server = self._server
        if server.full:
            server.later(partial(self._serve, content, body, fault))
        elif fault == "reset":
            server.book.leaves(0)
            self._transport.abort()
        elif fault == "http_500":
            self._end(500, _error("something broke"))
        elif fault == "bad_body":
            self._end(200, b"<html>the gateway is thinking</html>")
        elif server.faults.permanent(content) == "http_400":
            server.book.harms("http_400")
            self._end(400, _error("this cannot be answered", code="invalid_value"))
        else:
            text, finish = server.written(content, body)
            server.book.sells(content.digest)
            self._end(200, _completion(content, text, finish, bool(body.get("logprobs"))))
            if server.told.die_after and server.book.sold_ever >= server.told.die_after:
                os._exit(9)

    def _end(self, status: int, body: Mapping[str, Any] | bytes, more: Mapping[str, Any] | None = None) -> None:
        self._server.book.leaves(status)
        self._send(status, body, more)

    def _send(self, status: int, body: Mapping[str, Any] | bytes, more: Mapping[str, Any] | None = None) -> None:
        if self._transport.is_closing():
            return
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in (more or {}).items())
        head = f"HTTP/1.1 {status} {WORDS[status]}\r\nContent-Type: application/json\r\n{extra}"
        self._transport.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        if self._header("connection").lower() == "close":
            self._transport.close()


def _error(message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "fake_error", "code": code, "param": param}}


def _chances(content: Content) -> dict[str, Any] | None:
    """Of the first word, as far as the model says only Yes or No."""
    if (sure := verdict_of(content)) is None:
        return None
    words = [("Yes", 0.9 * sure), (" yes", 0.1 * sure), ("No", 1 - sure)]
    told = [{"token": word, "logprob": math.log(max(chance, 1e-30)), "bytes": None} for word, chance in words]
    return {"content": [{**max(told, key=lambda one: one["logprob"]), "top_logprobs": told}]}


def _completion(content: Content, text: str, finish: str, chances: bool) -> dict[str, Any]:
    read, wrote = len(content.text) // 4 + 256 * content.pictures, len(text) // 4
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {
        "id": f"chatcmpl-{content.digest.hex()[:24]}",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [choice | ({"logprobs": _chances(content)} if chances else {})],
        "usage": {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote},
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--jitter", type=float, default=0.25, help="latency is even or uneven by this share")
    parser.add_argument("--echo", action="store_true", help="reply with what was asked instead of a draft")
    for kind in PERMANENT + TRANSIENT:
        parser.add_argument("--" + kind.replace("_", "-"), type=float, default=0, metavar="SHARE")
    parser.add_argument("--times", type=int, default=1, help="how often a content meets its transient fault")
    parser.add_argument("--stubborn", action="store_true", help="what was spoilt once is spoilt when it is mended")
    parser.add_argument("--retry-after", default="1", help="seconds or a date, as it is sent with 429 and 503")
    parser.add_argument("--slow-seconds", type=float, default=30)
    parser.add_argument("--capacity", type=int, default=0, help="429 for what comes above it")
    parser.add_argument("--require-key", default="")
    parser.add_argument("--no-structured", action="store_true", help="refuse response_format")
    parser.add_argument("--no-logprobs", action="store_true", help="refuse logprobs")
    parser.add_argument("--die-after", type=int, default=0, help="exit without a word after so many completions")
    parser.add_argument("--log", default="", help="gets a line for every completion: digest of the content, time")
    return parser.parse_args()


async def serve(told: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    server = Server(told)
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", told.port, backlog=4096)
    loop.add_signal_handler(signal.SIGTERM, end.set)
    with contextlib.suppress(PermissionError):  # a file, or nothing: it has no end to wait for
        loop.add_reader(sys.stdin.fileno(), lambda: os.read(sys.stdin.fileno(), 4096) or end.set())
    print(json.dumps({"port": listening.sockets[0].getsockname()[1]}), flush=True)
    await end.wait()


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
