"""Names of objects: the same rule for a folder and a bucket, so that a root may move from one to the other."""

from __future__ import annotations

import re

from medgr2.schemas.errors import UsageError

_UNUSABLE = re.compile(r"[\x00-\x1f\\]")


def check_key(key: str) -> str:
    """The key itself, or UsageError: no way out of the root, nothing a file system or S3 could not hold."""
    parts = key.split("/")
    bad = (
        not key
        or any(part in ("", ".", "..") or len(part.encode()) > 200 for part in parts)
        or _UNUSABLE.search(key)
        or len(key.encode()) > 900
        or parts[0] == ".tmp"
    )
    if bad:
        raise UsageError(f"not a name for an object: {key[:120]!r}", where="object store")
    return key
