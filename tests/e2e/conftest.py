"""Fixtures of the tests that start the product as a user does."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from servers import prefect_server
from small_world import undisturbed

__all__ = ["prefect_server", "undisturbed"]
