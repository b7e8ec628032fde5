"""Likeness: the same picture again, re-encoded, resized, mirrored or turned; and pictures of known benchmarks."""

from __future__ import annotations

from medgr2.infra.neighbours import Neighbours
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.case import Case, contradict


def compare(case: Case) -> list[tuple[str, str]]:
    """Pairs that show the same and agree, so that they must share a split. Those that disagree are held back."""
    new = [image for image in case.owner if case.is_new(image)]
    held = [image for image in case.held_at if image not in set(new)]
    known = case.benchmarks["fingerprint"].to_pylist()
    neighbours = Neighbours()
    neighbours.add(known)
    neighbours.add([case.held_value(image, "fingerprint") or b"" for image in held])
    neighbours.add([case.fingerprints[case.owner[image]].as_py() for image in new])
    _shun_by_hash(case, new)
    names = [""] * len(known) + [*held, *new]
    agreeing: list[tuple[str, str]] = []
    for match in neighbours.pairs(len(known) + len(held)):
        a, b = names[match.held], names[match.new]
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
