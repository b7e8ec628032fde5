"""Settling: every picture that came through gets its split, together with all that must share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from medgr2.schemas.intake import Shares
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.case import Case, Facts
from medgr2.tasks.intake.groups import Groups
from medgr2.tasks.intake.splits import Assigner, Stratum


def settle(case: Case, alike: list[tuple[str, str]], shares: Shares) -> None:
    groups = _bound(case)
    _hold_back_torn(case, groups)
    _join_alike(case, groups, alike)
    _assign(case, groups, shares)
    _close_files(case)


def _bound(case: Case) -> Groups:
    """Patients, studies, groups and the parts of a file, which may name none; bound to the splits that are held or
    told."""
    groups = Groups()
    for image, at in case.held_at.items():
        if case.in_use(image) and image not in case.held_back:
            groups.bind(("image", image), case.held["split"][at])
            _tie(case, groups, image)
    for image in case.owner:
        if image in case.held_back:
            continue
        _tie(case, groups, image)
        if split := case.told["split"][case.file(image)]:
            groups.bind(("image", image), split)
    return groups


def _tie(case: Case, groups: Groups, image: str) -> None:
    groups.join(("file", case.origin(image) or image), ("image", image))
    for key in case.keys_of(image):  # copies too: if two patients share a picture, they share a split
        groups.join(("key", key), ("image", image))


def _hold_back_torn(case: Case, groups: Groups) -> None:
    """A patient in two splits: what is in use stays, unless it was another's until now; nothing new comes in."""
    for image in case.owner:
        if len(groups.splits(("image", image))) > 1 and (not case.in_use(image) or case.is_another_patients(image)):
            case.hold_back(image, "patient_in_both_splits", None)


def _join_alike(case: Case, groups: Groups, alike: list[tuple[str, str]]) -> None:
    for a, b in alike:
        if a in case.held_back or b in case.held_back:
            continue
        one, other = ("image", a), ("image", b)
        if groups.joinable(one, other):
            case.counts["near_duplicates_of_two_groups"] += groups.root(one) != groups.root(other)
            groups.join(one, other)
        else:
            gone = _weaker(case, a, b)
            case.hold_back(gone, "near_duplicate_in_other_split", a if gone == b else b)


def _weaker(case: Case, a: str, b: str) -> str:
    """What is new goes. Of two in use, whose likeness an earlier release did not see, the one that is trained on."""
    if case.in_use(a) and case.in_use(b):
        return a if case.held_value(a, "split") == Split.TRAIN else b
    return a if case.in_use(b) else b


def _assign(case: Case, groups: Groups, shares: Shares) -> None:
    unbound: dict[Hashable, list[str]] = {}
    for image in case.owner:
        if image in case.held_back:
            case.splits[image] = Split.QUARANTINED.value
        elif case.in_use(image):
            case.splits[image] = case.held_value(image, "split")
        elif bound := groups.splits(("image", image)):
            (case.splits[image],) = bound
        else:
            unbound.setdefault(groups.root(("image", image)), []).append(image)
    # The least keyed hash names a group: it does not depend on which of its pictures came first.
    named = {min(case.hashed("group", image) for image in images): sorted(images) for images in unbound.values()}
    strata = {name: [_stratum(case.facts(image)) for image in images] for name, images in named.items()}
    for name, split in Assigner(shares, _held_strata(case)).assign(strata).items():
        case.splits.update(dict.fromkeys(named[name], split.value))


def _held_strata(case: Case) -> list[tuple[Stratum, str, int]]:
    counted: Counter[tuple[Stratum, str]] = Counter()
    for image in case.held_at:
        if image not in case.owner and image not in case.held_back:
            counted[_stratum(case.held_facts(image)), case.held_value(image, "split")] += 1
    for image, split in case.splits.items():
        counted[_stratum(case.facts(image)), split] += 1
    return [(stratum, split, count) for (stratum, split), count in counted.items()]


def _stratum(facts: Facts) -> Stratum:
    modality, anatomy, diagnosis, grade = facts
    return (modality or "", diagnosis or grade or anatomy or "")


def _close_files(case: Case) -> None:
    """A file is in when one of its pictures is."""
    taken = {case.file(image) for image in case.owner if case.splits[image] != Split.QUARANTINED}
    for image in case.owner:
        if case.file(image) not in taken:
            case.refuse(case.file(image), case.held_back[image][0])
