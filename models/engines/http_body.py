"""What goes over the wire: the body of a request, and the reading of a reply. No sockets here."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from medgr2.infra.settings import ServerSettings
from medgr2.models.engines.seam import Completion, Request
from medgr2.schemas.errors import DataError
from medgr2.schemas.usage import NOTHING_USED, Usage

OPTIONAL = ("response_format", "logprobs", "seed", "temperature", "max_tokens")
"""What some servers do not know. Given up for the whole run when the server refuses it before it ever took it."""
MOST_TOKENS = 1 << 32
_MAGIC = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"))
_FORM_WORDS = ("response_format", "json_schema", "guided", "structured", "grammar")
_REFUSING = re.compile(
    r"unsupported|not support|unknown|unrecogni|unexpected|extra|not permitted|not allowed|forbidden|invalid"
    r"|does not|only the default|cannot|use 'max_completion_tokens'"
)
_WORDS = re.compile(r"[a-z0-9_]+")
_TOKEN = re.compile(r"[a-z0-9_]{1,40}")


@dataclass
class Dialect:
    """What this server was found to understand."""

    model: str
    without: set[str]
    proven: set[str]

    def body(self, request: Request) -> bytes:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(_messages(request)),
            "temperature": request.temperature,
            "seed": request.seeds[0] & 0x7FFFFFFF,
            "max_tokens": request.max_new_tokens,
        }
        if request.form is not None:
            form = {"name": "reply", "strict": True, "schema": dict(request.form)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if request.likely:
            body["logprobs"] = True
            if "logprobs" not in self.without:
                body["top_logprobs"] = request.likely
        if "max_tokens" in self.without:
            body["max_completion_tokens"] = request.max_new_tokens
        for name in self.without:
            body.pop(name, None)
        return to_json(body)

    def took(self, request: Request) -> None:
        """A reply came: what was asked with is understood, whatever a later refusal may say."""
        if len(self.proven) < len(OPTIONAL):
            self.proven.update(name for name in _optional(request) if name not in self.without)

    def give_up(self, refusal: bytes, request: Request) -> bool:
        """Whether the refusal names something that can be left out. Read here and nowhere told: it may quote."""
        if len(self.proven | self.without) == len(OPTIONAL):
            return False
        error = _error(refusal)
        said = str(error.get("message") or "").replace(request.text, "").lower()
        param = str(error.get("param") or "")
        for name in _optional(request):
            if name in self.without | self.proven:
                continue
            if name == "response_format":
                refused = any(word in said or word in param for word in _FORM_WORDS)
            else:
                named = {param, *_WORDS.findall(said)} & {name, f"top_{name}"}
                refused = bool(named) and bool(_REFUSING.search(said))
            if refused:
                self.without.add(name)
                return True
        return False


def _optional(request: Request) -> Iterator[str]:
    """What of it this request is sent with."""
    for name in OPTIONAL:
        if (name != "response_format" or request.form is not None) and (name != "logprobs" or request.likely):
            yield name


def _messages(request: Request) -> Iterator[dict[str, Any]]:
    picture = [] if request.image_path is None else [_picture(request.image_path)]
    for exchange in request.earlier:
        yield {"role": "user", "content": [*picture, {"type": "text", "text": exchange.asked}]}
        yield {"role": "assistant", "content": exchange.replied}
        picture = []
    content: Any = [*picture, {"type": "text", "text": request.text}] if picture else request.text
    yield {"role": "user", "content": content}


def _picture(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "webp"
    if not kind:
        raise DataError("a stored picture is of a kind that cannot be sent")
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"}}


def read_reply(data: bytes, settings: ServerSettings) -> tuple[Completion, Usage] | None:
    """None when it is no reply at all: broken JSON, or no choice in it."""
    try:
        reply = from_json(data)
        choice = reply["choices"][0]
        content = choice["message"].get("content") or ""
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
        usage = _usage(reply.get("usage"), settings)
        finished = choice.get("finish_reason") != "length"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    if not isinstance(content, str):
        return None
    return Completion(content, finished, usage.tokens_out, usage.tokens_in, _likely(choice.get("logprobs"))), usage


def _likely(told: Any) -> tuple[tuple[str, float], ...]:
    """Of the first token that is not blank. What is not told as OpenAI does it was not told."""
    try:
        first = next(one for one in told["content"] if one["token"].strip())
        found = tuple((str(one["token"]), float(one["logprob"])) for one in first["top_logprobs"])
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        return ()
    return found if all(chance <= 0 for _, chance in found) else ()


def usage_of(data: bytes, settings: ServerSettings) -> Usage:
    """Of a reply of status 200 with no completion in it: it was written and is paid for, unless it tells an error."""
    try:
        body = from_json(data)
    except ValueError:
        return Usage(1)
    if not isinstance(body, Mapping):
        return Usage(1)
    return NOTHING_USED if body.get("error") else _usage(body.get("usage"), settings)


def _usage(used: Any, settings: ServerSettings) -> Usage:
    read, written = _count(used, "prompt_tokens"), _count(used, "completion_tokens")
    return Usage(1, read, written, 0.0, (read * settings.price_in + written * settings.price_out) / 1e6)


def _count(used: Any, name: str) -> int:
    """Counted by somebody else: what cannot be a number of tokens counts as none."""
    number = used.get(name) if isinstance(used, Mapping) else None
    return number if isinstance(number, int) and 0 <= number < MOST_TOKENS else 0


def error_code(data: bytes) -> str:
    """The server's own word for the fault, where it is a word: its message may quote the prompt."""
    error = _error(data)
    found = (error.get(name) for name in ("code", "type"))
    return next((word for word in found if isinstance(word, str) and _TOKEN.fullmatch(word)), "")


def _error(data: bytes) -> Mapping[str, Any]:
    try:
        body = from_json(data)
    except ValueError:
        return {"message": data[:2000].decode("utf-8", "replace")}
    if not isinstance(body, Mapping):
        return {"message": str(body)[:2000]}
    inner = body.get("error")
    if isinstance(inner, Mapping):
        return inner
    if "detail" in body:  # FastAPI's own way
        return {"message": str(body["detail"])[:2000]}
    return body if inner is None else {"message": str(inner)[:2000]}
