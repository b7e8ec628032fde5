"""Generation measured: ours beside a bare aiohttp client and, with --peers, other programs in their environments.

python benchmarks/generation/run.py [--rows 10000] [--rounds 3] [--peers] [--envs FOLDER] [--only text,flight,...]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import speed
import survival
from programs import floor, ours, peers

ENVIRONMENTS = Path.home() / ".cache" / "medgr2-bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--envs", type=Path, default=ENVIRONMENTS, help="a folder with an environment for each peer")
    parser.add_argument(
        "--only", default="", metavar="A,B", help="text pictures flight memory kills nights refusals mix million"
    )
    told = parser.parse_args()
    print(f"$ python {' '.join(sys.argv)}")
    print(f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, aiohttp {version('aiohttp')}")
    others = peers(told.envs) if told.peers else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sections: dict[str, Callable[[], None]] = {
            "text": lambda: speed.cpu_of_text([floor(), ours(), *others], told.rows, told.rounds, folder),
            "pictures": lambda: speed.cpu_of_pictures(told.rounds, folder),
            "flight": lambda: speed.in_flight([floor(), ours(), *others], told.rounds, folder),
            "memory": lambda: speed.memory(folder),
            "kills": lambda: survival.kills([ours(), *others], folder),
            "nights": lambda: survival.nights([ours(), *others], folder),
            "refusals": lambda: survival.refusals([ours(), *others], folder),
            "mix": lambda: survival.mix(folder),
            "million": lambda: survival.million(folder),
        }
        for section in told.only.split(",") if told.only else sections:
            sections[section]()
            sys.stdout.flush()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
