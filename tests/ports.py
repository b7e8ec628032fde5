"""Ports for servers that are told theirs: found some time before they are bound, and given to nobody else meanwhile."""

from __future__ import annotations

import os
import secrets
import socket

# Below those that the kernel gives to whoever asks for any, above those of Ray's workers.
LOWEST, EACH = 20_000, 1_500
"""Every process of the tests has so many of its own."""
_first = LOWEST + EACH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8)
_last = secrets.randbelow(EACH)


def free_port() -> int:
    """Never the same one twice, until all were given out."""
    global _last
    for _ in range(EACH):
        _last = (_last + 1) % EACH
        with socket.socket() as s:
            try:
                s.bind(("", _first + _last))
            except OSError:
                continue
            return _first + _last
    raise AssertionError(f"none of the ports from {_first} on is free")
