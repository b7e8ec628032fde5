"""Likeness: the same picture again, re-encoded, resized, mirrored or turned; and pictures of known benchmarks."""

from __future__ import annotations

import pyarrow as pa

from medgr2.infra.neighbours import Neighbours
from medgr2.infra.pictures.fingerprint import comparable
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.case import Case, contradict

PART = 4096


def compare(case: Case) -> list[tuple[str, str]]:
    """Pairs that show the same and agree, so that they must share a split. Those that disagree are held back."""
    new = [image for image in case.owner if case.is_new(image)]
    _shun_by_hash(case, new)
    known = [("", one) for one in case.benchmarks["fingerprint"].to_pylist() if comparable(one)]
    fresh = set(new)
    held = [
        (image, one)
        for image in case.held_at
        if image not in fresh and comparable(one := case.held_value(image, "fingerprint"))
    ]
    names = [*(name for name, _ in known + held), *new]
    agreeing: list[tuple[str, str]] = []
    neighbours = Neighbours([one for _, one in known + held])
    for start in range(0, len(new), PART):
        part = pa.array([case.owner[image] for image in new[start : start + PART]], pa.int64())
        neighbours.add(case.fingerprints.take(part).to_pylist())
    for match in neighbours.pairs(first_new=len(known) + len(held)):
        a, b = names[match.first], names[match.second]
        if not a:  # of a benchmark
            _shun(case, b)
        elif case.origin(a) != case.origin(b):  # parts of one film look alike, and share their patient anyway
            case.counts["near_duplicates"] += 1
            if contradict(case.facts(a), case.facts(b)):
                case.hold_back(a, "contradicts_near_duplicate", b)
                case.hold_back(b, "contradicts_near_duplicate", a)
            else:
                agreeing.append((a, b))
    return sorted(agreeing)


def _shun_by_hash(case: Case, new: list[str]) -> None:
    contents = set(case.benchmarks["content"].to_pylist())
    for image in new:
        if image in contents or case.contents[case.file(image)] in contents:
            _shun(case, image)


def _shun(case: Case, image: str) -> None:
    """An image of a benchmark may be held out, never trained on."""
    if case.told["split"][case.file(image)] != Split.HELDOUT:
        case.hold_back(image, "known_benchmark_image", None)
