"""The floor: bare aiohttp. Posts the same bodies, parses the replies, keeps nothing.

python floor.py URL ROWS IN_FLIGHT [PICTURES-FOLDER BODY.json]
With a folder, each of its files is a row: it is read, encoded and put into the body in the file.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from rows import rows


def text_bodies(count: int) -> Iterator[bytes]:
    for row in rows(count):
        yield json.dumps(
            {
                "model": "fake",
                "messages": [{"role": "user", "content": row["text"]}],
                "temperature": 1.0,
                "seed": 0,
                "max_tokens": 256,
            }
        ).encode()


def picture_bodies(count: int, folder: Path, template: Path) -> Iterator[bytes]:
    body: dict[str, Any] = json.loads(template.read_text())
    (picture,) = [part for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[:count]:
        picture["image_url"]["url"] = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        yield json.dumps(body).encode()


async def ask_all(url: str, bodies: Iterator[bytes], in_flight: int) -> int:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:

        async def ask() -> int:
            written = 0
            for body in bodies:
                async with session.post(f"{url}/chat/completions", data=body) as reply:
                    said = json.loads(await reply.read())
                    written += bool(said["choices"][0]["message"]["content"])
            return written

        return sum(await asyncio.gather(*(ask() for _ in range(in_flight))))


def main() -> None:
    url, count, in_flight, *pictures = sys.argv[1:]
    n = int(count)
    bodies = picture_bodies(n, Path(pictures[0]), Path(pictures[1])) if pictures else text_bodies(n)
    print(json.dumps({"kept": asyncio.run(ask_all(url, bodies, int(in_flight)))}))


if __name__ == "__main__":
    main()
