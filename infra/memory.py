"""Memory handed back: allocators keep what was freed, once a thread, and that looks like a leak in a long run."""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa

_M_ARENA_MAX = -8
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def spare() -> None:
    """From now on: one heap for all threads, and Arrow on it. For processes that run long and hold little."""
    pa.set_memory_pool(pa.system_memory_pool())
    if mallopt := getattr(_LIBC, "mallopt", None):
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    if trim := getattr(_LIBC, "malloc_trim", None):
        trim(0)
