"""The fake server of the tests, as a process of its own, and what it says of its clients."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parents[2] / "tests" / "served" / "fake_server.py"


@dataclass(frozen=True)
class Served:
    url: str
    log: Path
    pid: int

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ask("GET", "_stats"))
        return found

    def reset(self) -> None:
        self._ask("POST", "_reset")
        self.log.write_text("")

    def sold(self) -> Counter[str]:
        """Completions by content; a server that was asked and left alone wrote them too, as one that is paid does."""
        return Counter(line.split()[0] for line in self.log.read_text().splitlines())

    def _ask(self, method: str, page: str) -> bytes:
        request = urllib.request.Request(self.url.removesuffix("v1") + page, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
            return bytes(reply.read())


@contextlib.contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Served]:
    log = folder / f"sold-{len(list(folder.glob('sold-*')))}.log"
    log.touch()
    command = [sys.executable, str(PROGRAM), "--port", "0", "--log", str(log), *flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            port = json.loads(process.stdout.readline())["port"]
            yield Served(f"http://127.0.0.1:{port}/v1", log, process.pid)
        finally:
            process.terminate()
            process.wait(30)


def share_full(stats: dict[str, Any], limit: int) -> tuple[float, float]:
    """Share of the time that the server held `limit` requests or more, and how many it held on average over `limit`;
    from when it was first full to when the last request came."""
    spent = {int(level): seconds for level, seconds in stats["steady_seconds_at"].items()}
    whole = sum(spent.values()) or 1.0
    return (
        sum(seconds for level, seconds in spent.items() if level >= limit) / whole,
        sum(level * seconds for level, seconds in spent.items()) / whole / limit,
    )
