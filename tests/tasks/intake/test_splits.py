"""Groups and splits, over made-up hospitals: shares hold in every stratum, and nobody ever changes sides."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from medgr2.schemas.intake import Shares
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.groups import Groups
from medgr2.tasks.intake.splits import Assigner, Stratum

OPEN = (Split.TRAIN, Split.VALIDATION, Split.HELDOUT)
STRATA = [("CT", "mass"), ("CT", "normal"), ("MRI", ""), ("OCT", "edema")]
strata = st.sampled_from(STRATA)
a_group = st.lists(strata, min_size=1, max_size=6)
hospitals = st.lists(a_group, min_size=1, max_size=120).map(lambda groups: {named(n): g for n, g in enumerate(groups)})
a_share = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3, 0.5])
some_shares = st.builds(Shares, validation=a_share, heldout=a_share)
nodes = st.integers(0, 12)
joins = st.lists(st.tuples(nodes, nodes), max_size=20)
binds = st.lists(st.tuples(nodes, st.sampled_from(["train", "validation", "heldout"])), max_size=8)


def named(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def pictures(groups: dict[str, list[Stratum]], found: dict[str, Split]) -> Counter[tuple[Stratum, Split]]:
    return Counter((stratum, found[name]) for name, group in groups.items() for stratum in group)


@given(size=st.integers(1, 6), number=st.integers(1, 150), shares=some_shares)
def test_every_share_is_met_within_one_group(size: int, number: int, shares: Shares) -> None:
    groups = {named(n): [("CT", "mass")] * size for n in range(number)}
    found = Counter(Assigner(shares, []).assign(groups).values())
    for split in OPEN:
        assert abs(found[split] - shares.of(split) * number) <= 1


@given(groups=hospitals, shares=some_shares)
def test_each_stratum_is_met_within_one_and_a_half_groups(groups: dict[str, list[Stratum]], shares: Shares) -> None:
    """Three levels are weighed against one another, the whole, the modality and the label: one can cost another."""
    groups = {name: [group[0]] * len(group) for name, group in groups.items()}
    found = pictures(groups, Assigner(shares, []).assign(groups))
    largest = max(map(len, groups.values()))
    for stratum in STRATA:
        total = sum(found[stratum, split] for split in OPEN)
        for split in OPEN:
            assert abs(found[stratum, split] - shares.of(split) * total) <= 1.5 * largest


@given(groups=hospitals, validation=a_share, seed=st.integers(0, 9))
def test_the_order_of_arrival_within_one_run_does_not_matter(
    groups: dict[str, list[Stratum]], validation: float, seed: int
) -> None:
    shuffled = list(groups.items())
    random.Random(seed).shuffle(shuffled)
    shares = Shares(validation=validation)
    found = Assigner(shares, []).assign(groups)
    assert found == Assigner(shares, []).assign({name: group[::-1] for name, group in shuffled})
    assert found.keys() == groups.keys()


@given(groups=hospitals, shares=some_shares)
def test_a_split_without_a_share_gets_nothing(groups: dict[str, list[Stratum]], shares: Shares) -> None:
    given_to = set(Assigner(shares, []).assign(groups).values())
    assert all(shares.of(split) for split in given_to)


@given(first=st.integers(1, 60), later=st.integers(1, 60))
def test_what_is_held_counts(first: int, later: int) -> None:
    """Two nights keep the shares as well as one; the assigner never sees those that are held again."""
    shares, mass = Shares(), ("CT", "mass")
    one = Assigner(shares, []).assign({named(n): [mass] for n in range(first)})
    held = [(mass, split.value, count) for split, count in Counter(one.values()).items()]
    two = Assigner(shares, held).assign({named(1000 + n): [mass] for n in range(later)})
    whole = Counter(one.values()) + Counter(two.values())
    for split in OPEN:
        assert abs(whole[split] - shares.of(split) * (first + later)) <= 1


@given(joins=joins, binds=binds, seed=st.integers(0, 9))
def test_groups_are_what_is_connected_whatever_the_order(
    joins: list[tuple[int, int]], binds: list[tuple[int, str]], seed: int
) -> None:
    def built(joins: list[tuple[int, int]], binds: list[tuple[int, str]], *, late: bool) -> Groups:
        groups = Groups()
        for node, split in () if late else binds:
            groups.bind(node, split)
        for a, b in joins:
            groups.join(a, b)
        for node, split in binds if late else ():
            groups.bind(node, split)
        return groups

    mixed = [(b, a) for a, b in joins]
    random.Random(seed).shuffle(mixed)
    one, other = built(joins, binds, late=False), built(mixed, binds[::-1], late=True)
    neighbours = {n: {n} for n in range(13)}
    for a, b in joins:
        whole = neighbours[a] | neighbours[b]
        for member in whole:
            neighbours[member] = whole
    for a in range(13):
        expected = {split for node, split in binds if node in neighbours[a]}
        assert one.splits(a) == other.splits(a) == expected
    for a, b in combinations(range(13), 2):
        together = b in neighbours[a]
        assert (one.root(a) == one.root(b)) is together
        assert (other.root(a) == other.root(b)) is together
        fits = len(one.splits(a) | one.splits(b)) < 2
        assert one.joinable(a, b) is (together or fits)


def test_many_findings_of_one_picture_each_are_held_out_too() -> None:
    """Diagnoses in free text: hardly one occurs twice."""
    groups = {named(n): [("CT", f"finding {n}")] for n in range(400)}
    found = Counter(Assigner(Shares(), []).assign(groups).values())
    assert abs(found[Split.HELDOUT] - 40) <= 4
    assert abs(found[Split.VALIDATION] - 40) <= 4


def test_every_process_decides_alike() -> None:
    """Python orders a set otherwise in every process, and a sum of floats depends on its order."""
    program = """
import hashlib, random
from medgr2.schemas.intake import Shares
from medgr2.tasks.intake.splits import Assigner
r = random.Random(1)
strata = [[(r.choice(["CT", "MR", "US"]), r.choice("abcdefg")) for _ in range(r.randint(1, 9))] for _ in range(3000)]
found = Assigner(Shares(), []).assign({hashlib.sha256(b"%d" % n).hexdigest(): s for n, s in enumerate(strata)})
print(hashlib.sha256(repr(sorted((name, split.value) for name, split in found.items())).encode()).hexdigest())
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True,
            text=True, check=True, timeout=400,
        ).stdout
        for seed in (0, 9, 18, 21)
    }  # fmt: skip
    assert len(said) == 1
