"""Fifty nights at one held-out set: without a ledger luck is promoted in the end, with it no more often than alpha."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from medgr2.infra.objects_folder import FolderStore
from medgr2.models.alpha_ledger import AlphaLedger, level, spent
from medgr2.models.paired import mcnemar
from medgr2.models.registry import Source
from medgr2.schemas.errors import DataError
from medgr2.schemas.vocabulary import Role

ALPHA, NIGHTS, RUNS, ITEMS = 0.05, 50, 2000, 300
HELDOUT = {
    version: Source(dataset="heldout", version=version, digest=str(version) * 64) for version in range(1, 9)
}  # fmt: skip
MEMBERS = {
    HELDOUT[1]: range(100),
    HELDOUT[2]: range(180),  # 80 of 180 are new
    HELDOUT[3]: range(200),  # half of what version 1 knows
    HELDOUT[4]: range(500, 600),
    HELDOUT[5]: range(100, 200),  # all of it new beside version 1
    HELDOUT[6]: range(200, 300),
    HELDOUT[7]: range(300),  # a third of each of three: nothing of it is new
    HELDOUT[8]: range(50, 202),  # two questions more than half of it are new beside version 1
}


def members_of(source: Source) -> Collection[str]:
    return [str(n) for n in MEMBERS[source]]


@pytest.fixture
def ledger(tmp_path: Path) -> AlphaLedger:
    return AlphaLedger(FolderStore(str(tmp_path)), members_of)


def look(ledger: AlphaLedger, candidate: str, heldout: int = 1, champion: str = "champion") -> tuple[int, float]:
    found = ledger.look(
        Role.POLICY, HELDOUT[heldout], candidate=candidate, champion=champion, alpha=ALPHA, run="ds/night"
    )
    return found.look, found.level


def test_all_looks_together_never_spend_more_than_alpha() -> None:
    levels = [level(ALPHA, n) for n in range(1, 2001)]
    assert levels == sorted(levels, reverse=True)
    assert sum(levels) == pytest.approx(spent(ALPHA, 2000))
    assert 0.99 * ALPHA < sum(levels) < ALPHA


def test_the_same_question_is_the_same_look(ledger: AlphaLedger) -> None:
    assert look(ledger, "a") == (1, 0.025)
    assert look(ledger, "a") == (1, 0.025), "a night that was killed spends nothing twice"
    assert look(ledger, "b") == (2, pytest.approx(ALPHA / 6))
    assert look(ledger, "a", champion="another") == (3, pytest.approx(ALPHA / 12)), "another comparison is another look"
    assert look(ledger, "b") == (2, pytest.approx(ALPHA / 6)), "and keeps its level, whatever came later"
    told = ledger.looks(Role.POLICY)[2].told()
    assert told.text("heldout@1") == "look 3 at heldout@1: level 0.00417, spent 0.0375 of 0.05"
    assert ledger.looks(Role.REWARD) == []


def test_a_version_with_half_of_its_items_new_begins_anew(ledger: AlphaLedger) -> None:
    for name in "abc":
        look(ledger, name)
    assert look(ledger, "d", heldout=2)[0] == 4, "most of its questions were asked before"
    assert look(ledger, "e", heldout=3)[0] == 2, "of version 1 it is new, of version 2 it is not"
    assert look(ledger, "f", heldout=4) == (1, 0.025)
    assert look(ledger, "g", heldout=1)[0] == 6, "all of its questions are in the two that came after it"


def test_questions_that_any_version_asked_are_not_new_whichever_it_was(ledger: AlphaLedger) -> None:
    look(ledger, "a")
    look(ledger, "b")
    look(ledger, "c")
    assert look(ledger, "d", heldout=5)[0] == 1
    assert look(ledger, "e", heldout=6)[0] == 1
    # Version 1 had asked a third of it, which leaves enough; with version 5 beside it, two thirds.
    assert look(ledger, "f", heldout=7) == (3, pytest.approx(ALPHA / 12)), "of one third each, and none of it is new"


def test_a_larger_version_goes_on_where_the_one_before_it_stood(ledger: AlphaLedger) -> None:
    for name in "abc":
        look(ledger, name)
    assert look(ledger, "d", heldout=8)[0] == 1, "more than half of it is new"
    assert look(ledger, "e", heldout=8)[0] == 2
    assert look(ledger, "f", heldout=3)[0] == 3, "beside version 1 alone it is new; version 8 had the rest"
    assert look(ledger, "g", heldout=4)[0] == 1
    assert look(ledger, "h", heldout=8)[0] == 4, "a version that has nothing to do with it in between spends nothing"


def test_of_many_at_once_each_has_a_look_of_its_own(tmp_path: Path) -> None:
    def one(n: int) -> int:
        return look(AlphaLedger(FolderStore(str(tmp_path)), members_of), f"candidate {n % 8}")[0]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(16)))
    assert found[:8] == found[8:]
    assert sorted(found[:8]) == list(range(1, 9))


def test_a_damaged_record_is_told_and_not_counted_as_none(ledger: AlphaLedger, tmp_path: Path) -> None:
    look(ledger, "a")
    (record,) = (tmp_path / "exams" / "policy").iterdir()
    record.write_bytes(b"{}")
    with pytest.raises(DataError, match="damaged") as raised:
        look(ledger, "b")
    assert raised.value.where == "exams/policy/00000000.json"


def promoted_in(spending: bool) -> float:
    """Share of runs in which a policy of no gain is promoted within fifty nights, all on the same questions."""
    rng, p = np.random.default_rng(11), cache(mcnemar)
    fooled = 0
    for _ in range(RUNS):
        easy = rng.uniform(0.4, 1.0, ITEMS)
        champion = rng.random(ITEMS) < easy
        candidates = rng.random((NIGHTS, ITEMS)) < easy
        wins = (candidates & ~champion).sum(axis=1).tolist()
        losses = (~candidates & champion).sum(axis=1).tolist()
        fooled += any(
            won > lost and p(won, lost) <= (level(ALPHA, night) if spending else ALPHA)
            for night, (won, lost) in enumerate(zip(wins, losses, strict=True), 1)
        )
    return fooled / RUNS


def test_fifty_nights_of_no_gain_are_promoted_in_no_more_than_alpha_of_the_runs() -> None:
    assert promoted_in(spending=False) > 5 * ALPHA, "one level every night is fooled"
    assert promoted_in(spending=True) <= ALPHA
