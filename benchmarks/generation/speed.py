"""What a row costs, how full the server is kept, and how much memory that takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import pictures
from programs import Program, Used, emptied, floor, ours, run, title
from serving import Served, serving, share_full

IN_FLIGHT = 64
FEW = 100
LATENCY_MS = 100
SLOW_MS = 2000
"""About what a vision-language model of 7B takes for such a reply with so many at once."""
WAVES = 10
PICTURES = 1000
PICTURE_BYTES = 50_000
WEIGHTS = (1_000, 50_000, 500_000)


def told(values: Sequence[float], form: str = "6.2f") -> str:
    return f"{median(values):{form}} [{min(values):{form}} .. {max(values):{form}}]"


def cpu_of_text(programs: Sequence[Program], rows: int, rounds: int, folder: Path) -> None:
    title(
        f"CPU per text row: {rows} rows of 1 KB, {IN_FLIGHT} in flight, replies after {LATENCY_MS} ms; ms of user and "
        f"system time of the program and its descendants, beyond a run of {FEW} rows; median [min .. max] of {rounds}"
    )
    each: dict[str, list[float]] = {one.name: [] for one in programs}
    begin: dict[str, list[float]] = {one.name: [] for one in programs}
    peak: dict[str, float] = {}
    with serving(folder, "--latency-ms", str(LATENCY_MS)) as served:
        for _ in range(rounds):
            for one in programs:
                few, many = (_whole(one, served, folder, n) for n in (FEW, rows))
                if few is None or many is None:
                    continue
                row = (many.cpu - few.cpu) / (rows - FEW)
                each[one.name].append(row * 1000)
                begin[one.name].append(few.cpu - FEW * row)
                peak[one.name] = max(peak.get(one.name, 0), many.peak_mb)
    _beside_the_floor(
        each, {name: f"start-up {told(s, '5.2f')} s, peak {peak[name]:4.0f} MB" for name, s in begin.items() if s}
    )


def _whole(one: Program, served: Served, folder: Path, rows: int) -> Used | None:
    served.reset()
    used = run(one.command(served, emptied(folder / one.name), rows, IN_FLIGHT), folder / "logs")
    if used.status or used.told.get("kept") != rows:
        print(f"  {one.name}: status {used.status}, kept {used.told.get('kept')} of {rows}")
        return None
    return used


def _beside_the_floor(each: dict[str, list[float]], more: dict[str, str]) -> None:
    lowest = each.get(floor().name) or [float("nan")]
    for name, values in each.items():
        if values:
            ratio = median(values) / median(lowest)
            print(f"  {name:<14} {told(values)} ms   {ratio:5.2f} x floor   {more.get(name, '')}")


def cpu_of_pictures(rounds: int, folder: Path) -> None:
    title(
        f"CPU per picture row: {PICTURES} pictures of {PICTURE_BYTES // 1000} KB; ours is GenerateWorker with prompt, "
        "form, parser and checks, the floor reads, encodes and posts the same files in the same bodies and parses the "
        "replies"
    )
    root = emptied(folder / "pictures")
    images = pictures.fill(root, PICTURES, PICTURE_BYTES)
    listed, body = folder / "images.txt", folder / "body.json"
    listed.write_text("\n".join(images))
    body.write_text(json.dumps(pictures.body_of(images[0], root)))
    each: dict[str, list[float]] = {floor().name: [], ours().name: []}
    with serving(folder, "--latency-ms", str(LATENCY_MS)) as served:
        for _ in range(rounds):
            for one, more in (
                (floor(), [str(root / "images"), str(body)]),
                (ours(), ["--images", str(listed)]),
            ):
                used = []
                for count in (FEW, PICTURES):
                    pictures.forget(root)
                    used.append(run(one.command(served, root, count, IN_FLIGHT, *more), folder / "logs"))
                    assert used[-1].told.get("kept") == count, (one.name, used[-1])
                each[one.name].append((used[1].cpu - used[0].cpu) / (PICTURES - FEW) * 1000)
    _beside_the_floor(each, {})


def in_flight(programs: Sequence[Program], rounds: int, folder: Path) -> None:
    rows = WAVES * IN_FLIGHT
    title(
        f"In flight, as the server counts: {rows} text rows, limit {IN_FLIGHT}, replies after {SLOW_MS} ms +- 25%; "
        "share of the time at the limit, and mean over limit, until the last request came"
    )
    with serving(folder, "--latency-ms", str(SLOW_MS)) as served:
        shares: dict[str, list[tuple[float, float]]] = {one.name: [] for one in programs}
        for _ in range(rounds):
            for one in programs:
                if _whole(one, served, folder, rows) is not None:
                    shares[one.name].append(share_full(served.stats(), IN_FLIGHT))
    for name, found in shares.items():
        if found:
            at, mean = ([100 * share for share in one] for one in zip(*found, strict=True))
            print(f"  {name:<14} at the limit {told(at, '5.1f')} %   mean {told(mean, '5.1f')} %")


def memory(folder: Path) -> None:
    count = 4 * IN_FLIGHT
    title(f"Peak resident memory of ours: {count} pictures, {IN_FLIGHT} in flight")
    with serving(folder, "--latency-ms", "1000") as served:
        for weight in WEIGHTS:
            root = emptied(folder / "heavy")
            listed = folder / "images.txt"
            listed.write_text("\n".join(pictures.fill(root, count, weight)))
            used = run(ours().command(served, root, count, IN_FLIGHT, "--images", str(listed)), folder / "logs")
            assert used.told.get("kept") == count, used
            print(f"  {weight // 1000:4} KB each   {used.peak_mb:6.0f} MB")
    emptied(folder / "heavy")
