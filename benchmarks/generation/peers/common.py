"""What every peer's program is told, and what it tells. Runs in the peer's environment: standard library only.

python PEER.py URL FOLDER ROWS IN_FLIGHT [EDITED]
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
from rows import rows

QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TELEMETRY_ENABLED": "false",
    "NEMO_TELEMETRY_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "OPENAI_API_KEY": "none",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NO_PROXY": "127.0.0.1,localhost",
    "OMP_NUM_THREADS": "1",
}
os.environ.update(QUIET)


class Asked(NamedTuple):
    url: str
    folder: Path
    rows: list[dict[str, str]]
    in_flight: int


def asked() -> Asked:
    url, folder, count, in_flight, *edited = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Asked(url, Path(folder), rows(int(count), edited=int(edited[0]) if edited else 0), int(in_flight))


def tell(package: str, told: Asked, found: Iterable[tuple[str, str]]) -> None:
    """`found`: id of the row and the text that was asked, for every row that has a reply in the output."""
    now = {row["id"]: row["text"] for row in told.rows}
    kept = dict(found)
    fresh = sum(now.get(row) == text for row, text in kept.items())
    print()
    print(json.dumps({"peer": f"{package} {version(package)}", "kept": fresh, "stale": len(kept) - fresh}), flush=True)
