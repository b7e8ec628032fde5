"""Shared fixtures. Each subject has its own module beside this file; list its fixtures here."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from hypothesis import HealthCheck, settings
from shares import pytest_collection_modifyitems, pytest_xdist_make_scheduler
from storage_fixtures import ceph, folder_storage, moto, s3_storage, storage

# Each run draws the same examples, and a stalled machine fails none: `--hypothesis-profile=default` draws others.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
# A shell gives what it starts in the background a SIGINT that is ignored, and tests of ours send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = [
    "ceph", "folder_storage", "moto", "pytest_collection_modifyitems", "pytest_xdist_make_scheduler", "s3_storage",
    "storage",
]  # fmt: skip
