"""What was asked: the identity of a conversation, and which of the faults is its own.

Everything follows from the conversation's words and pictures and the model's name, so that two clients that ask the
same get the same, whatever else they send.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Content:
    digest: bytes
    first: bytes
    """Of the first thing the user said: the same when a reply is asked to be mended."""
    text: str
    """All that the user wrote."""
    pictures: int

    def share(self, salt: str, *, of_the_first: bool = False) -> float:
        """A number from 0 to 1 that this content has for ever."""
        digest = self.first if of_the_first else self.digest
        return int.from_bytes(hashlib.sha256(salt.encode() + digest).digest()[:8]) / 2**64


def content_of(body: Mapping[str, Any]) -> Content:
    model = str(body["model"]).encode()
    whole, texts, pictures = hashlib.sha256(model), [], 0
    first = b""
    for message in body["messages"]:
        role, said = str(message["role"]), message["content"]
        whole.update(role.encode())
        for part in [{"type": "text", "text": said}] if isinstance(said, str) else said:
            if part["type"] == "text":
                whole.update(b"\0" + part["text"].encode())
                if role != "assistant":
                    texts.append(part["text"])
            else:
                whole.update(b"\1" + part["image_url"]["url"].encode())
                pictures += 1
        if role == "user" and not first:
            first = whole.digest()
    return Content(whole.digest(), first or whole.digest(), "\n".join(texts), pictures)


PERMANENT = ("http_400", "truncated_json", "prose", "unsupported")
TRANSIENT = ("http_429", "http_503", "http_500", "reset", "slow_first_byte", "bad_body")


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of the contents that each fault befalls: no content has two of one kind."""

    shares: Mapping[str, float]
    times: int = 1
    """So often does a content meet its transient fault."""
    stubborn: bool = False
    """A permanent fault stays with a conversation when the client asks for the reply to be mended."""

    def permanent(self, content: Content) -> str | None:
        return self._befalls(PERMANENT, content.share("permanent", of_the_first=self.stubborn))

    def transient(self, content: Content, asked_before: int) -> str | None:
        if asked_before >= self.times:
            return None
        return self._befalls(TRANSIENT, content.share("transient"))

    def _befalls(self, kinds: tuple[str, ...], at: float) -> str | None:
        for kind in kinds:
            at -= self.shares.get(kind, 0.0)
            if at < 0:
                return kind
        return None
