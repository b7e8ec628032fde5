"""What thinning makes of batches whose leak is known: `python benchmarks/thinning.py [--draws N]`.

Each is drawn anew so many times. `told` is what the rule of the blind probe tells of the batch without a picture;
`taught` is what thinning says that the rest still teaches, and `fresh` what that truly tells of items drawn anew from
the same source; `unthinned` is what the whole batch teaches of these. Chance is .25, the limit .30. Medians over the
draws that were thinned, and the worst. `naive` thins by the same margins until the probe passes what is left, and
asks nothing else.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from leaky_batches import batch

from medgr2.models.blind_probe import probe
from medgr2.models.blind_rule import Looks
from medgr2.models.thinning import STEP, surest_first, thin
from medgr2.schemas.items import Item
from medgr2.schemas.probe import Probed

FRESH = 3000


def hedged(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
    return (f"likely {key}" if rng.random() < 0.15 else key), rivals


def odd_words(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
    return ("likely " if rng.random() < 0.5 else "possible ") + key, ["possible " + rival for rival in rivals]


def never_the_key(key: str, rivals: list[str], _: random.Random) -> tuple[str, list[str]]:
    return key, [*rivals[:2], "artefact"]


SOURCES: dict[str, dict[str, Any]] = {
    "a label 2 times as often": {"number": 1200, "prior": (2, 1, 1, 1, 1, 1)},
    "a label 4 times as often": {"number": 800, "prior": (4, 1, 1, 1, 1, 1)},
    "letter A 2 times as often": {"number": 1000, "places": (2, 1, 1, 1)},
    "the same, in few items": {"number": 380, "places": (2, 1, 1, 1)},
    "15% of the keys are 'likely'": {"number": 800, "write": hedged},
    "50% are, and rivals 'possible'": {"number": 600, "write": odd_words},
    "an option that is never right": {"number": 1600, "write": never_the_key},
}


def teaches(learned: Sequence[Item], fresh: Sequence[Item]) -> float:
    looks = Looks([*learned, *fresh])
    said = looks.said(looks.weights(range(len(learned))))
    places = range(len(learned), len(looks.all))
    return sum(looks.credit(at, said[at]) for at in places) / len(places)


def naive(items: Sequence[Item]) -> list[Item]:
    surest = surest_first(Looks(items), range(len(items)))
    for step in range(1, round(1 / STEP)):
        kept = [items[at] for at in sorted(surest[round(step * STEP * len(items)) :])]
        if probe(kept).verdict is not Probed.LEAKS:
            return kept
    return []


def row(name: str, draws: int) -> str:
    source, leaks = SOURCES[name], 0
    found: list[tuple[float, ...]] = []
    passed: list[float] = []
    for seed in range(draws):
        items = sorted(batch(**source, seed=seed), key=lambda item: item.item_id)
        probed = probe(items)
        if probed.verdict is not Probed.LEAKS or probed.accuracy is None:
            continue
        leaks += 1
        fresh = batch(**{**source, "number": FRESH, "seed": 1000 + seed})
        if kept := naive(items):
            passed.append(teaches(kept, fresh))
        rest = thin(items, probed)
        if rest is not None and rest.probe.thinned is not None:
            kept = [item for item in items if item.item_id not in rest.dropped]
            share, taught = len(rest.dropped) / len(items), rest.probe.thinned.taught
            found.append((probed.accuracy, teaches(items, fresh), share, taught, teaches(kept, fresh)))
    told = f"{name:<32}{len(items):>6}{leaks:>7}{len(found):>9}"
    if found:
        middles = [median(column) for column in zip(*found, strict=True)]
        told += "".join(f"{one:>{width}.3f}" for one, width in zip(middles, (7, 11, 9, 8, 7), strict=True))
        told += f"{max(one[-1] for one in found):>8.3f}"
    else:
        told += "".join(f"{'-':>{width}}" for width in (7, 11, 9, 8, 7, 8))
    return told + (f"{median(passed):>12.3f}{max(passed):>8.3f}" if passed else f"{'-':>12}{'-':>8}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10)
    chosen = parser.parse_args()
    print(f"command: {' '.join(['python', *sys.argv])}\nmachine: {platform.machine()}, one thread")
    print(
        f"\n{'batches in which':<32}{'items':>6}{'leaked':>7}{'thinned':>9}{'told':>7}{'unthinned':>11}{'dropped':>9}"
        f"{'taught':>8}{'fresh':>7}{'worst':>8}{'naive fresh':>12}{'worst':>8}"
    )
    began = time.process_time()
    for name in SOURCES:
        print(row(name, chosen.draws), flush=True)
    print(f"\n{time.process_time() - began:.0f} CPU s")


if __name__ == "__main__":
    main()
