"""Content hashes: one canonical form, so that equal content has equal names everywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """The only JSON that is ever hashed: sorted keys, no spaces, UTF-8, no NaN."""
    return _CANONICAL.encode(value).encode()


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    return sha256_hex(canonical_json(value))


def digest_of_ids(ids: Iterable[str]) -> str:
    """The digest of a set of ids: order and repetition do not matter."""
    h = hashlib.sha256()
    for one in sorted(set(ids)):
        h.update(one.encode())
        h.update(b"\n")
    return h.hexdigest()
