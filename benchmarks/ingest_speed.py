"""Ingest beside a bare Pillow loop on the same files: python benchmarks/ingest_speed.py [--pictures FOLDER]

The bare loop reads, hashes, decodes and resizes each file, one after the other, and keeps nothing. Ingest also takes
labels, strips metadata, checks, finds near-duplicates, assigns splits and stores everything durably. Both run in
processes of their own; CPU seconds count all processes, so that the ratio is per core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES = ((224, 4000), (1024, 600), (2048, 150))
BARE = """
import hashlib, io, json, sys
from pathlib import Path
from PIL import Image
for path in sorted(Path(sys.argv[1]).rglob('*.jpg')):
    data = path.read_bytes()
    hashlib.sha256(data).hexdigest()
    picture = Image.open(io.BytesIO(data))
    picture.load()
    picture.resize((224, 224))
"""


def seeds(folder: Path | None) -> list[Image.Image]:
    if folder is not None:
        return [Image.open(path).convert("RGB") for path in sorted(folder.rglob("*.jpg"))[::10]]
    rng = np.random.default_rng(0)
    blobs = [Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)) for _ in range(50)]
    return [blob.resize((512, 512), Image.Resampling.BICUBIC) for blob in blobs]


def draw(folder: Path, pictures: list[Image.Image], side: int, count: int) -> None:
    """Different pictures of about the byte size that real ones of this side have: grain is what fills a JPEG."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(side)
    with (folder / "labels.csv").open("w") as labels:
        labels.write("file,modality,diagnosis,patient_id\n")
        for n in range(count):
            one, other = (pictures[int(rng.integers(len(pictures)))] for _ in range(2))
            turned = other.rotate(int(rng.integers(360))).resize((side, side))
            mixed = Image.blend(one.resize((side, side)), turned, 0.5)
            grain = rng.normal(0, 4, (side, side, 1))
            grey = Image.fromarray(np.clip(np.asarray(mixed) + grain, 0, 255).astype(np.uint8))
            grey.save(folder / f"{n:06d}.jpg", quality=88)
            labels.write(f"{n:06d}.jpg,CT,nodule,p{n // 3}\n")


def run(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """CPU and wall seconds of a command with all its children, and the memory of its largest process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall": time.monotonic() - start,
    }


def peak_mb(command: list[str], environment: dict[str, str]) -> float:
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, "
        "stderr=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    out = subprocess.run([sys.executable, "-c", code, *command], env=environment, check=True, capture_output=True)
    return float(out.stdout)


def measure(work: Path, pictures: list[Image.Image], side: int, count: int, rounds: int) -> dict[str, Any]:
    source = work / f"source{side}"
    draw(source, pictures, side, count)
    root = work / "root"
    environment = {
        **os.environ, "MEDGR2_STORAGE__ROOT": str(root), "MEDGR2_COMPUTE__MODE": "inline", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    ingest = [sys.executable, "-m", "medgr2.flows.cli", "ingest", str(source), "--json"]
    bare = [sys.executable, "-c", BARE, str(source)]
    idle = run([sys.executable, "-m", "medgr2.flows.cli", "versions"], environment)
    run(bare, environment)
    figures: dict[str, list[dict[str, float]]] = {"bare": [], "first": [], "again": []}
    for _ in range(rounds):
        shutil.rmtree(root, ignore_errors=True)
        figures["bare"].append(run(bare, environment))
        figures["first"].append(run(ingest, environment))
        figures["again"].append(run(ingest, environment))
    cpu = {name: statistics.median(one["cpu"] for one in many) for name, many in figures.items()}
    wall = {name: statistics.median(one["wall"] for one in many) for name, many in figures.items()}
    return {
        "side": side, "files": count, "kb": sum(p.stat().st_size for p in source.glob("*.jpg")) / count / 1024,
        "bare_ms": 1e3 * cpu["bare"] / count, "ingest_ms": 1e3 * cpu["first"] / count,
        "cpu_ratio": cpu["bare"] / cpu["first"], "wall_ratio": wall["bare"] / wall["first"],
        "again_of_first_cpu": cpu["again"] / cpu["first"], "again_of_first_wall": wall["again"] / wall["first"],
        "again_s": wall["again"], "idle_command_s": idle["wall"],
    }  # fmt: skip


def memory(work: Path, pictures: list[Image.Image], counts: list[int]) -> list[dict[str, float]]:
    found = []
    for count in counts:
        source = work / f"memory{count}"
        draw(source, pictures, 64, count)
        root = work / f"root{count}"
        environment = {
            **os.environ, "MEDGR2_STORAGE__ROOT": str(root), "MEDGR2_COMPUTE__MODE": "inline", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "medgr2.flows.cli", "ingest", str(source), "--json"]
        start = time.monotonic()
        found.append({"files": count, "peak_mb": peak_mb(command, environment), "seconds": time.monotonic() - start})
        again = time.monotonic()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        found[-1]["again_seconds"] = time.monotonic() - again
        shutil.rmtree(source)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder of JPEGs to mix the files from; default: drawn ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="*", default=[1000, 10_000], help="numbers of files")
    asked = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, pid {os.getpid()}")
    print("python", " ".join(sys.argv))
    pictures = seeds(asked.pictures)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        for side, count in SIZES:
            print(
                json.dumps(
                    {k: round(v, 4) for k, v in measure(Path(folder), pictures, side, count, asked.rounds).items()}
                )
            )
        for one in memory(Path(folder), pictures, asked.memory):
            print(json.dumps({k: round(v, 2) for k, v in one.items()}))


if __name__ == "__main__":
    main()
