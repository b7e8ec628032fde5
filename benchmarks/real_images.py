"""The arms of the loop on real images: `python benchmarks/real_images.py [--kit FOLDER] [--seeds N] [--json]`.

Six modalities of public, de-identified pictures whose labels are the truth, whole groups held out. Everything goes
through the real path, from the intake to the exam with its controls; the file of labels plays the reviewer, in a
process of its own. Skipped where the kit is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
KIT = Path(__file__).parents[2] / "shared" / "data" / "realkit"
FIRST_SEED = 101


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path, default=KIT, help="folder with labels.csv and images/")
    parser.add_argument("--seeds", type=int, default=2, help="each with a split, a seed and trainings of its own")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--images", type=int, default=1000, help="a night asks about at most so many")
    parser.add_argument("--audits", type=int, default=80, help="of each of the two nights")
    parser.add_argument("--steps", type=int, default=600, help="of SFT; half of them in the arm SFT(seed)")
    parser.add_argument("--writer-steps", type=int, default=400)
    parser.add_argument("--grpo-steps", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="seeds at a time")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    chosen = parser.parse_args()
    if not (chosen.kit / "labels.csv").is_file():
        print(f"skipped: the kit of real images is not there ({chosen.kit.name}/labels.csv); --kit names its folder")
        return
    with tempfile.TemporaryDirectory() as name:
        run(chosen, Path(name))


def run(chosen: argparse.Namespace, work: Path) -> None:
    from realkit import arms, tables

    began = time.monotonic()
    sizes = arms.Sizes(chosen.images, chosen.audits, chosen.steps, chosen.writer_steps, chosen.grpo_steps)
    with ProcessPoolExecutor(max_workers=chosen.jobs, mp_context=get_context("spawn")) as pool:
        numbers = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
        running = [pool.submit(arms.run, chosen.kit, work / f"seed{seed}", seed, sizes) for seed in numbers]
        seeds = [one.result() for one in running]
    found = {
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(sum(one.cpu_seconds for one in seeds)),
        **tables.document(seeds),
    }
    if chosen.json:
        print(json.dumps(found))
        return
    for name in ("command", "machine", "seconds", "cpu_seconds"):
        print(f"{name}: {found[name]}")
    print(f"\n{tables.printed(found)}")


if __name__ == "__main__":
    main()
