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

CASES = ((224, "jpg", 10_000), (512, "jpg", 1500), (1024, "jpg", 600), (1024, "png", 300))
BARE = """
import hashlib, io, json, sys
from pathlib import Path
from PIL import Image
for path in sorted(Path(sys.argv[1]).glob('*.' + sys.argv[2])):
    data = path.read_bytes()
    hashlib.sha256(data).hexdigest()
    picture = Image.open(io.BytesIO(data))
    picture.load()
    picture.resize((224, 224))
"""

AGAIN = """
import json, sys, time
from medgr2.flows.intake import take_in
from medgr2.infra.workspace import open_workspace
open_workspace()
take_in(open_workspace(), sys.argv[1], run='warm')
start = time.process_time()
take_in(open_workspace(), sys.argv[1], run='again')
print(time.process_time() - start)
"""


def seeds(folder: Path | None) -> list[Image.Image]:
    if folder is not None:
        return [Image.open(path).convert("RGB") for path in sorted(folder.rglob("*.jpg"))[::10]]
    rng = np.random.default_rng(0)
    blobs = [Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)) for _ in range(50)]
    return [blob.resize((512, 512), Image.Resampling.BICUBIC) for blob in blobs]


def draw(folder: Path, pictures: list[Image.Image], side: int, kind: str, count: int) -> None:
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
            grey.save(folder / f"{n:06d}.{kind}", quality=88)
            labels.write(f"{n:06d}.{kind},CT,nodule,p{n // 3}\n")


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


def measure(work: Path, pictures: list[Image.Image], side: int, kind: str, count: int, rounds: int) -> dict[str, Any]:
    source = work / f"source{side}{kind}"
    draw(source, pictures, side, kind, count)
    root = work / "root"
    environment = environ(root)
    ingest = [sys.executable, "-m", "medgr2.flows.cli", "ingest", str(source), "--json"]
    bare = [sys.executable, "-c", BARE, str(source), kind]
    run(bare, environment)
    figures: dict[str, list[dict[str, float]]] = {"bare": [], "first": [], "again": [], "idle": []}
    for _ in range(rounds):
        shutil.rmtree(root, ignore_errors=True)
        figures["bare"].append(run(bare, environment))
        figures["first"].append(run(ingest, environment))
        figures["again"].append(run(ingest, environment))
        figures["idle"].append(run([sys.executable, "-m", "medgr2.flows.cli", "versions"], environment))
    inside = subprocess.run(
        [sys.executable, "-c", AGAIN, str(source)], env=environment, check=True, capture_output=True, text=True
    )
    cpu = {name: statistics.median(one["cpu"] for one in many) for name, many in figures.items()}
    wall = {name: statistics.median(one["wall"] for one in many) for name, many in figures.items()}
    return {
        "side": side, "kind": kind, "files": count,
        "kb": sum(p.stat().st_size for p in source.glob(f"*.{kind}")) / count / 1024,
        "bare_cpu_ms": 1e3 * cpu["bare"] / count, "ingest_cpu_ms": 1e3 * cpu["first"] / count,
        "rate_of_bare_per_core": cpu["bare"] / cpu["first"], "rate_of_bare_by_the_clock": wall["bare"] / wall["first"],
        "first_cpu_s": cpu["first"], "again_cpu_s": cpu["again"], "empty_command_cpu_s": cpu["idle"],
        "again_of_first_percent": 100 * cpu["again"] / cpu["first"],
        "again_in_a_running_process_percent": 100 * float(inside.stdout) / cpu["first"],
    }  # fmt: skip


def environ(root: Path) -> dict[str, str]:
    return {
        **os.environ, "MEDGR2_STORAGE__ROOT": str(root), "MEDGR2_COMPUTE__MODE": "inline", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def memory(work: Path, pictures: list[Image.Image], counts: list[int]) -> list[dict[str, float]]:
    found = []
    for count in counts:
        source = work / f"memory{count}"
        draw(source, pictures, 64, "jpg", count)
        root = work / f"root{count}"
        environment = environ(root)
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
    parser.add_argument("--share", type=float, default=1.0, help="of the usual numbers of files")
    parser.add_argument("--memory", type=int, nargs="*", default=[1000, 10_000], help="numbers of files")
    asked = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, pid {os.getpid()}")
    print("python", " ".join(sys.argv))
    pictures = seeds(asked.pictures)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        for side, kind, count in CASES:
            found = measure(Path(folder), pictures, side, kind, max(50, int(count * asked.share)), asked.rounds)
            print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()}), flush=True)
        for one in memory(Path(folder), pictures, asked.memory):
            print(json.dumps({k: round(v, 2) for k, v in one.items()}), flush=True)


if __name__ == "__main__":
    main()
