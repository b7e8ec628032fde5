"""Outcomes of many cells as a mapping: read in pieces, the same as if they were all in memory."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from medgr2.infra import journal_values
from medgr2.infra.journal import Journal
from medgr2.infra.journal_values import HeldOutcomes
from medgr2.infra.objects_folder import FolderStore
from medgr2.schemas.cells import Outcome, Recipe
from medgr2.schemas.errors import DataError
from medgr2.schemas.vocabulary import Verdict

RECIPE = Recipe(stage="squares", code="1")
CELLS = [RECIPE.cell(inputs={"n": n}) for n in range(100)]
DONE = [
    Outcome(c.key, Verdict.FAILED, None, ("ValueError",), attempt=1 + n % 3)
    if n % 10 == 0
    else Outcome.accepted(c, {"n": n})
    for n, c in enumerate(CELLS[:90])
]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_values, "CHUNK", 7)


def held(store: FolderStore, keys: list[str], fresh: dict[str, Outcome] | None = None) -> HeldOutcomes:
    journal = Journal(store, "squares")
    index = journal.index()
    return HeldOutcomes(journal, {key: n for n, key in enumerate(keys)}, *index.held(index.find(keys)), fresh or {})


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store, shuffled = FolderStore(tmp_path), random.Random(1).sample(DONE, len(DONE))
    for first in range(0, 90, 13):
        Journal(store, "squares").append(shuffled[first : first + 13])
    return store


def test_it_is_the_mapping_of_what_was_done_in_the_order_of_the_cells(store: FolderStore) -> None:
    found = held(store, [c.key for c in CELLS])
    assert found == {o.key: o for o in DONE}
    assert list(found) == [c.key for c in CELLS[:90]]
    assert len(found) == 90
    assert CELLS[95].key not in found
    assert found.get(CELLS[95].key) is None
    assert found[CELLS[88].key] == DONE[88]
    assert found[CELLS[2].key] == DONE[2]


def test_a_piece_is_read_once_when_cells_come_in_order(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = Journal.outcomes
    monkeypatch.setattr(Journal, "outcomes", lambda self, keys: (asked.append(len(keys)), read(self, keys))[1])
    found = held(store, [c.key for c in CELLS])
    assert [found[c.key] for c in CELLS[:90]] == DONE
    assert asked == [7] * 12 + [6]


def test_what_is_fresh_is_not_read(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    found = held(store, [c.key for c in CELLS], {o.key: o for o in DONE})
    monkeypatch.setattr(Journal, "outcomes", None)
    assert [found[c.key] for c in CELLS[:90]] == DONE


def test_digests_do_not_depend_on_order_or_attempts_and_see_every_value(store: FolderStore, tmp_path: Path) -> None:
    keys = [c.key for c in CELLS]
    digest = held(store, keys).digest
    assert held(store, keys[::-1]).digest == digest

    def other(change: Outcome) -> str:
        there = FolderStore(tmp_path / f"other-{random.random()}")
        Journal(there, "squares").append([change, *DONE[1:]])
        return held(there, keys).digest

    first = DONE[0]
    assert other(first) == digest
    assert other(Outcome(first.key, first.verdict, None, first.reasons, attempt=9)) == digest
    assert other(Outcome(first.key, first.verdict, None, ("KeyError",))) != digest
    assert other(Outcome(first.key, first.verdict, {"n": 1}, first.reasons)) != digest
    assert other(Outcome(first.key, Verdict.REJECTED, None, first.reasons)) != digest
    assert held(store, keys[1:]).digest != digest


def test_the_state_tells_a_retry_that_failed_again_but_not_the_order(store: FolderStore) -> None:
    keys = [c.key for c in CELLS]
    state = held(store, keys).state
    assert held(store, keys[::-1]).state == state
    Journal(store, "squares").append([Outcome(CELLS[0].key, Verdict.FAILED, None, ("ValueError",), attempt=2)])
    assert held(store, keys).state != state


def test_values_that_are_gone_are_an_error_that_says_how_many(store: FolderStore) -> None:
    found = held(store, [c.key for c in CELLS])
    for info in list(store.list("journal/")):
        store.delete(info.key)
    with pytest.raises(DataError, match="7 finished cells of squares cannot be read any more"):
        found[CELLS[0].key]


def test_an_empty_one_is_empty(tmp_path: Path) -> None:
    found = held(FolderStore(tmp_path), [])
    assert (len(found), list(found), found.digest) == (0, [], f"{0:064x}")
    assert np.count_nonzero(found.verdict) == 0
    assert found.state
