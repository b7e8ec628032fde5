"""How often the gate promotes and stops whom: `python benchmarks/promotion_gate.py [--runs N]`.

First, exactly, by summing over all outcomes: how often a slice that truly fell by the whole margin is taken for one
that did not, at the share of differing answers where that happens most; and how often one that truly fell by .10.
Then, drawn: candidates that are so much better on every item, and such of which one modality fell, before an exam with
eight modalities and five question types, at the level of the first look.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from math import exp, lgamma, log

import numpy as np

from medgr2.models.alpha_ledger import level
from medgr2.models.measures import Answer
from medgr2.models.paired_means import flip_images
from medgr2.models.promotion_gate import Rule, fallen
from medgr2.models.slices import most_fall, slices_of

RULE = Rule()
MODALITIES, TYPES = 8, 5


def outcomes(n: int) -> Iterator[tuple[int, int]]:
    return ((wins, losses) for wins in range(n + 1) for losses in range(n + 1 - wins))


def chance(wins: int, losses: int, n: int, won: float, lost: float) -> float:
    parts = ((wins, won), (losses, lost), (n - wins - losses, 1 - won - lost))
    if any(k and p <= 0 for k, p in parts):
        return 0.0
    return exp(lgamma(n + 1) + sum(k * log(p) - lgamma(k + 1) if k else 0.0 for k, p in parts))


def exact(n: int) -> str:
    held = [o for o in outcomes(n) if most_fall(*o, n, RULE.slice_alpha) <= RULE.slice_margin]

    def most_often(fall: float) -> float:
        differing = [fall + step / 100 for step in range(0, 60, 5)]
        return max(sum(chance(w, k, n, (d - fall) / 2, (d + fall) / 2) for w, k in held) for d in differing)

    return f"{n:>6}{most_often(RULE.slice_margin):>12.3f}{most_often(0.10):>12.3f}"


class Exam:
    def __init__(self, items: int) -> None:
        def answer(i: int, correct: bool) -> Answer:
            return Answer(str(i), str(i), f"modality {i % MODALITIES}", f"type {i % TYPES}", correct, True)

        self.items = items
        self.first = np.arange(items) % MODALITIES == 0
        right, wrong = ([answer(i, correct) for i in range(items)] for correct in (True, False))
        self.won, self.lost = list(zip(right, wrong, strict=True)), list(zip(wrong, right, strict=True))
        self.same = list(zip(right, right, strict=True))

    def drawn(
        self, gain: float, differing: float, fall: float, rng: np.random.Generator
    ) -> list[tuple[Answer, Answer]]:
        gains = np.where(self.first, -fall, gain) if fall else np.full(self.items, gain)
        differ, u = np.maximum(differing, abs(gains)), rng.random(self.items)
        won, lost = u < (differ + gains) / 2, u >= 1 - (differ - gains) / 2
        return [self.won[i] if won[i] else self.lost[i] if lost[i] else self.same[i] for i in range(self.items)]


def drawn(exam: Exam, gain: float, differing: float, fall: float, runs: int) -> str:
    rng, most = np.random.default_rng(0), level(RULE.alpha, 1)
    better = promoted = stopped = harmed = 0
    for _ in range(runs):
        pairs = exam.drawn(gain, differing, fall, rng)
        won = sum(a.correct - b.correct for a, b in pairs) > 0 and flip_images(pairs) <= most
        slices = slices_of(pairs, RULE.slice_alpha)
        first = [one for one in slices if one.name == "modality 0"]
        better += won
        promoted += won and not fallen(slices, RULE)
        stopped += bool(fallen(first, RULE))
        harmed += any(one.fall > RULE.slice_harm and (one.p_value or 0.0) <= RULE.slice_alpha for one in first)
    shares = "".join(f"{n / runs:>12.3f}" for n in (better, promoted, stopped, harmed))
    return f"{exam.items:>6}{gain:>+8.2f}{-fall if fall else gain:>+10.2f}{differing:>11.2f}{shares}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    print(f"{platform.machine()}, Python {platform.python_version()}; command: {' '.join(sys.argv)}")
    print(f"margin {RULE.slice_margin}, harm {RULE.slice_harm}, level {RULE.slice_alpha}, one-sided; {runs} runs\n")
    print(f"{'items':>6}{'by margin':>12}{'by .10':>12}   fell so far, and taken for one that did not, at most")
    for n in (30, 37, 60, 100):
        print(exact(n), flush=True)
    print(f"\n{'':>6}{'':>8}{'one':>10}{'':>11}{'better':>12}{'':>12}{'that one':>12}{'by harm':>12}")
    heads = ("promoted", "stops it", "alone")
    print(
        f"{'items':>6}{'others':>8}{'modality':>10}{'differing':>11}{'overall':>12}{''.join(f'{h:>12}' for h in heads)}"
    )
    for items in (300, 1200):
        exam = Exam(items)
        for differing in (0.12, 0.2):
            for gain, fall in ((0.05, 0.0), (0.08, 0.0), (0.08, 0.1), (0.08, 0.15)):
                print(drawn(exam, gain, differing, fall, runs), flush=True)


if __name__ == "__main__":
    main()
