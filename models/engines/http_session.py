"""A session with a server: its connections and deadlines, what is sent on them, and the list of its models."""

from __future__ import annotations

from urllib.parse import urlsplit

import aiohttp
from pydantic_core import from_json

from medgr2.infra.settings import ServerSettings
from medgr2.models.engines.http_safety import is_loopback

LONGEST_LIST = 1 << 20


def open_session(settings: ServerSettings) -> aiohttp.ClientSession:
    headers = {}
    if settings.api_key is not None:
        headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
        timeout=aiohttp.ClientTimeout(total=settings.total_seconds, sock_connect=settings.connect_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        # Another machine is reached as that network wants it; this one never through anybody else.
        trust_env=settings.outside and not is_loopback(urlsplit(settings.url).hostname or ""),
    )


async def list_models(session: aiohttp.ClientSession, url: str) -> list[str]:
    """What the server says it has; nothing where it says nothing that can be read."""
    try:
        data = bytearray()
        async with session.get(f"{url}/models", allow_redirects=False) as reply:
            async for part in reply.content.iter_chunked(1 << 16):
                data += part
                if len(data) > LONGEST_LIST:
                    return []
        return [str(one["id"]) for one in from_json(bytes(data))["data"]]
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
        return []


class Parcel(aiohttp.payload.Payload):
    """The body of a request, let go when it was sent: pictures do not stay while the server thinks."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body, content_type="application/json")
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        body, self._value = self._value, b""
        await writer.write(body)
