"""Shared fixtures. Each subject has its own module beside this file; list its fixtures here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from storage_fixtures import ceph, folder_storage, moto, s3_storage, storage

__all__ = ["ceph", "folder_storage", "moto", "s3_storage", "storage"]
