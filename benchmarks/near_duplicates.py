"""How well copies of a picture are found, how often two pictures are taken for one, and what it costs.

python benchmarks/near_duplicates.py [REALKIT] [--full] [--scale 10000 100000] [--held 0]

REALKIT is a folder with labels.csv (file, source, group_id) and its images; without one, `../shared/data/realkit`
beside the checkout, and where that is missing only made pictures. Left to itself this takes under two minutes: recall
on every third picture, false pairs over all of them, 10,000 against each other. `--full` measures recall on all of
them, halved by group; both halves were seen while the method was made, so neither is an untouched test: they show how
far the numbers vary. It adds 100,000 against each other; `--held 1000000` adds 1,000 new against so many held.
Beside it: imagehash.phash, distance <= 8, nothing verified.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import platform
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medgr2.infra.neighbours import SAME_PICTURE, Match, Neighbours
from medgr2.infra.pictures.fingerprint import FINGERPRINT_VERSION, SIDE, fingerprint, unpack
from medgr2_phantoms.hospital import see_patients

Picture = Image.Image
Draw = np.random.Generator
THRESHOLDS = (0.82, 0.84, 0.86, 0.88, 0.90, 0.92)
PHANTOMS = 1200
REALKIT = Path(__file__).parents[1].parent / "shared" / "data" / "realkit"
SEEN_TO_BE_THE_SAME = {
    # brain MRI "no tumour": one picture mirrored or turned over, its contrast changed, published as two
    frozenset({"mr_d0163", "mr_d0175"}),
    frozenset({"mr_d0128", "mr_d0159"}),
    frozenset({"mr_d0048", "mr_d0113"}),
    frozenset({"mr_d0050", "mr_d0231"}),
    frozenset({"mr_d0208", "mr_d0246"}),
    frozenset({"mr_d0220", "mr_d0281"}),
    frozenset({"mr_d0054", "mr_d0249"}),
    frozenset({"mr_d0016", "mr_d0259"}),
    frozenset({"mr_d0026", "mr_d0157"}),
    # chest CT: one picture, or the slice beside it, published as "normal" and as "benign nodule"
    frozenset({"ct_d0047", "ct_d0189"}),
    frozenset({"ct_d0134", "ct_d0274"}),
}
"""Pairs of different groups that a person looked at and found to be one picture."""


def _jpeg(image: Picture, draw: Draw, quality: int | None = None) -> Picture:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality or int(draw.integers(30, 96)))
    return Image.open(io.BytesIO(stream.getvalue())).copy()


def _resize(image: Picture, draw: Draw) -> Picture:
    factor = float(np.exp(draw.uniform(np.log(0.5), np.log(2))))
    ways = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
    size = (max(16, round(image.width * factor)), max(16, round(image.height * factor)))
    return image.resize(size, ways[int(draw.integers(len(ways)))])


def _tone(image: Picture, change: Callable[[float], float]) -> Picture:
    table = [int(np.clip(round(change(level / 255) * 255), 0, 255)) for level in range(256)]
    return image.point(table * len(image.getbands()))


def _brightness(image: Picture, draw: Draw) -> Picture:
    shift = draw.uniform(-0.15, 0.15)
    return _tone(image, lambda level: level + shift)


def _contrast(image: Picture, draw: Draw) -> Picture:
    factor = draw.uniform(0.6, 1.5)
    return _tone(image, lambda level: (level - 0.5) * factor + 0.5)


def _gamma(image: Picture, draw: Draw) -> Picture:
    power = float(np.exp(draw.uniform(np.log(0.6), np.log(1.7))))
    return _tone(image, lambda level: level**power)


def _crop(image: Picture, draw: Draw) -> Picture:
    away_x, away_y = draw.uniform(0.02, 0.05, 2)
    left, top = draw.uniform(0, away_x) * image.width, draw.uniform(0, away_y) * image.height
    right, bottom = left + image.width * (1 - away_x), top + image.height * (1 - away_y)
    return image.crop((round(left), round(top), round(right), round(bottom)))


def _cut(image: Picture, draw: Draw) -> Picture:
    """The worst crop of 4%: all of it from one side, along both axes."""
    right, bottom = round(0.96 * image.width), round(0.96 * image.height)
    return image.crop((image.width - right, 0, image.width, bottom) if draw.random() < 0.5 else (0, 0, right, bottom))


def _text(image: Picture, draw: Draw) -> Picture:
    image = image.copy()
    words = "".join(draw.choice(list("ABCDEFGHKLMR0123456789 "), size=int(draw.integers(4, 14))))
    font = ImageFont.load_default(size=max(8, round(image.height * draw.uniform(0.05, 0.08))))
    place = (draw.uniform(0, 0.5) * image.width, draw.uniform(0, 0.9) * image.height)
    ImageDraw.Draw(image).text(place, words, font=font, fill="white")
    return image


def _mask(image: Picture, draw: Draw) -> Picture:
    image = image.copy()
    wide, high = draw.uniform(0.15, 0.45) * image.width, draw.uniform(0.06, 0.16) * image.height
    left, top = draw.uniform(0, image.width - wide), draw.uniform(0, image.height - high)
    ImageDraw.Draw(image).rectangle((left, top, left + wide, top + high), fill="black")
    return image


def _mirror(image: Picture, draw: Draw) -> Picture:
    ways = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM)
    return image.transpose(ways[int(draw.integers(2))])


def _rotate(image: Picture, draw: Draw) -> Picture:
    ways = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    return image.transpose(ways[int(draw.integers(3))])


CHANGES: dict[str, Callable[[Picture, Draw], Picture]] = {
    "JPEG 30-95": _jpeg,
    "JPEG 30": lambda image, draw: _jpeg(image, draw, 30),
    "resized 0.5-2": _resize,
    "brightness": _brightness,
    "contrast": _contrast,
    "gamma": _gamma,
    "cropped 2-5%": _crop,
    "4% off two sides": _cut,
    "text": _text,
    "masked box": _mask,
    "mirrored": _mirror,
    "rotated": _rotate,
}


def _mixed(count: int) -> Callable[[Picture, Draw], Picture]:
    names = [name for name in CHANGES if not name.startswith(("JPEG", "4%"))]

    def mix(image: Picture, draw: Draw) -> Picture:
        for name in draw.choice(names, size=count, replace=False):
            image = CHANGES[name](image, draw)
        return _jpeg(image, draw)

    return mix


MIXES = {f"mix of {count} + JPEG": _mixed(count) for count in (2, 3, 4)}


class Kit:
    """Pictures with their source, their group, and the half they belong to."""

    def __init__(self, folder: Path | None) -> None:
        self.names: list[str] = []
        self.pictures: list[Picture] = []
        self.sources: list[str] = []
        self.groups: list[str] = []
        if folder:
            with (folder / "labels.csv").open(encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    file = folder / row["file"]
                    self._take(file.stem, file.read_bytes(), row["source"], row["group_id"])
        for study in see_patients(PHANTOMS, "train", 0):
            self._take(study.file, study.png, "phantoms", study.file)

    def _take(self, name: str, data: bytes, source: str, group: str) -> None:
        self.names.append(name)
        self.pictures.append(Image.open(io.BytesIO(data)).copy())
        self.sources.append(source)
        self.groups.append(f"{source} {group}")

    def half(self, number: int) -> list[int]:
        return [
            index for index, group in enumerate(self.groups) if hashlib.sha256(group.encode()).digest()[0] % 2 == number
        ]


def _phash_words(pictures: Sequence[Picture]) -> np.ndarray:
    return np.stack([np.packbits(imagehash.phash(picture).hash) for picture in pictures]).view(np.uint64)[:, 0]


def recall(kit: Kit, chosen: list[int]) -> None:
    originals = [kit.pictures[index] for index in chosen]
    held = [fingerprint(picture) for picture in originals]
    hashes = _phash_words(originals)
    real = np.array([kit.sources[index] != "phantoms" for index in chosen])
    judged = real if real.any() else ~real
    print(
        f"  {'recall':<20} {'real':>7} {'phantoms':>9}   at other thresholds, {'real' if real.any() else 'phantoms'}: ",
        *THRESHOLDS,
        "   phash <= 8",
    )
    for name, change in {**CHANGES, **MIXES}.items():
        draw = np.random.default_rng(7)
        copies = [change(picture, draw) for picture in originals]
        store = Neighbours(held, least=min(THRESHOLDS))
        store.add([fingerprint(copy) for copy in copies])
        found = np.zeros(len(held))
        for match in store.pairs(len(held)):
            if match.second - len(held) == match.first:
                found[match.first] = match.similarity
        plain = np.bitwise_count(hashes ^ _phash_words(copies)) <= 8
        at = "  ".join(f"{(found[judged] >= threshold).mean():.3f}" for threshold in THRESHOLDS)
        ours = found >= SAME_PICTURE
        of_real = f"{ours[real].mean():7.3f}" if real.any() else "      -"
        print(f"  {name:<20} {of_real} {ours[~real].mean():9.3f}   {at}   {plain[judged].mean():.3f}", flush=True)


def false_pairs(kit: Kit, chosen: list[int]) -> None:
    store = Neighbours([fingerprint(kit.pictures[index]) for index in chosen], least=min(THRESHOLDS))
    matches = list(store.pairs())
    hashes = _phash_words([kit.pictures[index] for index in chosen])
    groups = np.array([kit.groups[index] for index in chosen])
    sources = np.array([kit.sources[index] for index in chosen])
    print(f"  {'pairs of other groups':<22} {'pairs':>8}   taken for one at", *THRESHOLDS, "  known to be one   phash")
    for source in dict.fromkeys(sources):
        here = np.flatnonzero(sources == source)
        other = np.triu(groups[here][:, None] != groups[here])
        close = np.bitwise_count(hashes[here][:, None] ^ hashes[here]) <= 8
        crossing = [m for m in matches if sources[m.first] == source and groups[m.first] != groups[m.second]]
        known = [m for m in crossing if _known(kit, chosen, m)]
        wrong = [m for m in crossing if m not in known]
        counts = "  ".join(f"{sum(m.similarity >= threshold for m in wrong):>4}" for threshold in THRESHOLDS)
        found = sum(m.similarity >= SAME_PICTURE for m in known)
        at = sum(m.similarity >= SAME_PICTURE for m in wrong) / other.sum() * 1e6
        print(
            f"  {source:<22} {other.sum():8}   {counts}   {found:>8}          {(close & other).sum():>6}"
            f"   = {at:.1f} per million, phash {(close & other).sum() / other.sum() * 1e6:.0f}"
        )
        for match in wrong:
            if match.similarity >= SAME_PICTURE:
                print(f"      {kit.names[chosen[match.first]]} {kit.names[chosen[match.second]]} {match[2:]}")
    across = [m for m in matches if sources[m.first] != sources[m.second] and m.similarity >= SAME_PICTURE]
    within = Counter(str(sources[m.first]) for m in matches if groups[m.first] == groups[m.second])
    print(f"  across sources: {len(across)}; within one group (neighbouring slices, one patient): {dict(within)}")


def _known(kit: Kit, chosen: list[int], match: Match) -> bool:
    return frozenset((kit.names[chosen[match.first]], kit.names[chosen[match.second]])) in SEEN_TO_BE_THE_SAME


def blends(held: Sequence[bytes], count: int, draw: Draw) -> list[bytes]:
    """New pictures that look like these: three of them, shifted and perhaps mirrored, shown through one another."""
    copies, _ = unpack(held)
    mixed = np.zeros((count, SIDE, SIDE))
    shares = draw.dirichlet((3, 3, 3), size=count)
    for part in range(3):
        taken = copies[draw.integers(len(copies), size=count)].astype(np.float64)
        taken = np.where(draw.random(count)[:, None, None] < 0.3, taken[:, :, ::-1], taken)
        shift = draw.integers(-2, 3, size=(count, 2))
        rows = np.clip(np.arange(SIDE) + shift[:, :1], 0, SIDE - 1)
        columns = np.clip(np.arange(SIDE) + shift[:, 1:], 0, SIDE - 1)
        taken = taken[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
        mixed += taken * shares[:, part, None, None]
    stretched = np.clip((mixed - mixed.mean((1, 2), keepdims=True)) * 1.5 + 128, 0, 255).astype(np.uint8)
    return [bytes((FINGERPRINT_VERSION, 0)) + one.tobytes() for one in stretched]


def scale(folder: Path | None, sources: Sequence[str], count: int, new: int) -> None:
    """One line; run in a process of its own, for its peak memory."""
    kit = Kit(folder)
    pools = {
        source: [fingerprint(one) for one, its in zip(kit.pictures, kit.sources, strict=True) if its == source]
        for source in sources
    }
    del kit
    draw = np.random.default_rng(3)
    store, adding = Neighbours(), 0.0
    while len(store) < count:
        more = [one for pool in pools.values() for one in blends(pool, 1000 // len(pools), draw)]
        more = [more[index] for index in draw.permutation(len(more))][: count - len(store)]
        before = time.process_time()
        store.add(more)
        adding += time.process_time() - before
    before, wall = time.process_time(), time.perf_counter()
    matches = sum(1 for _ in store.pairs(count - new))
    asking, wall = time.process_time() - before, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kind = "all sources" if len(sources) > 1 else sources[0]
    print(
        f"  {count:>9} held, {new:>7} new, {kind:<12} add {adding:6.1f} s CPU   "
        f"pairs {asking:7.1f} s CPU {wall:7.1f} s wall   peak {peak:5.0f} MB   {matches} matches",
        flush=True,
    )


def cost_of_one(kit: Kit) -> None:
    pictures = kit.pictures[:1500]
    before = time.process_time()
    for picture in pictures:
        fingerprint(picture)
    print(f"  fingerprint: {(time.process_time() - before) / len(pictures) * 1e6:.0f} us CPU a picture of 224 px")
    before = time.process_time()
    for picture in pictures[:300]:
        imagehash.phash(picture)
    print(f"  imagehash.phash: {(time.process_time() - before) / 300 * 1e6:.0f} us CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("realkit", type=Path, nargs="?", default=REALKIT if REALKIT.is_dir() else None)
    parser.add_argument("--full", action="store_true", help="every picture, in halves; and 100,000 against each other")
    parser.add_argument("--scale", type=int, nargs="*", help="so many pictures, each against each")
    parser.add_argument("--held", type=int, default=0, help="also: 1,000 new pictures against so many held")
    parser.add_argument("--one", nargs=3, metavar=("SOURCES", "COUNT", "NEW"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        scale(chosen.realkit, chosen.one[0].split(","), int(chosen.one[1]), int(chosen.one[2]))
        return
    print(f"$ python {' '.join(sys.argv)}")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    kit = Kit(chosen.realkit)
    if chosen.full:
        for number in (0, 1):
            print(f"half {number + 1}: {len(kit.half(number))} pictures, threshold {SAME_PICTURE}")
            recall(kit, kit.half(number))
            false_pairs(kit, kit.half(number))
    else:
        some = list(range(0, len(kit.names), 3))
        print(f"every third: {len(some)} pictures, threshold {SAME_PICTURE}")
        recall(kit, some)
    print(f"all {len(kit.names)} pictures")
    false_pairs(kit, list(range(len(kit.names))))
    print("cost, on one core", flush=True)
    cost_of_one(kit)
    every = [source for source in dict.fromkeys(kit.sources) if source != "phantoms"] or ["phantoms"]
    counts = chosen.scale if chosen.scale is not None else [10_000, 100_000] if chosen.full else [10_000]
    runs = [(",".join(every), count, count) for count in counts]
    if "nih" in every:
        runs.append(("nih", 10_000, 10_000) if chosen.full else ("nih", 2000, 2000))
    if chosen.held:
        runs.append((",".join(every), chosen.held + 1000, 1000))
    folder = [str(chosen.realkit)] if chosen.realkit else []
    for sources, count, new in runs:
        command = [sys.executable, __file__, *folder, "--one", sources, str(count), str(new)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
