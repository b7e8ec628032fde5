"""What a lost or broken batch means for its cells, and the contract that every worker is held to. No processes."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence

import pytest

from medgr2.infra.compute import Work, open_compute
from medgr2.infra.dispatch import Dispatch
from medgr2.infra.purse import Purse
from medgr2.infra.settings import ComputeSettings, Settings
from medgr2.infra.worker import Trouble, build_worker, work_through
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import NightStoppedError
from medgr2.schemas.vocabulary import Verdict

RECIPE = Recipe(stage="squares", code="1")
CELLS = [RECIPE.cell(inputs={"n": n}) for n in range(10)]
TROUBLE = Trouble("ValueError", "x.py:1 in f")


def test_a_batch_that_raised_is_tried_cell_by_cell_and_costs_no_attempt() -> None:
    dispatch = Dispatch(CELLS[:4], {}, 4, attempts=3, purse=Purse())
    batch = dispatch.next_batch() or []
    assert dispatch.raised(batch[1:], TROUBLE, alone=False) == []
    assert [dispatch.next_batch() for _ in range(4)] == [[CELLS[1]], [CELLS[2]], [CELLS[3]], None]
    (outcome,) = dispatch.raised([CELLS[1]], TROUBLE, alone=True)
    assert (outcome.verdict, outcome.reasons, outcome.attempt) == (Verdict.FAILED, ("ValueError",), 1)


def test_a_cell_is_given_up_only_after_it_was_lost_alone() -> None:
    dispatch = Dispatch(CELLS[:2], {CELLS[0].key: 7, CELLS[1].key: 7}, 2, attempts=3, purse=Purse())
    batch = dispatch.next_batch() or []
    assert dispatch.lost(batch, "worker_died", "", alone=False) == []
    first, second = dispatch.next_batch() or [], dispatch.next_batch() or []
    assert dispatch.finished(Outcome.accepted(first[0], {})).attempt == 9
    (given_up,) = dispatch.lost(second, "worker_died", "", alone=True)
    assert (given_up.reasons, given_up.attempt) == (("worker_died",), 9)
    assert dispatch.next_batch() is None


def test_a_cell_lost_alone_is_tried_again_while_attempts_are_left() -> None:
    dispatch = Dispatch(CELLS[:1], {}, 1, attempts=3, purse=Purse())
    given_up: list[Outcome] = []
    tries = 0
    while batch := dispatch.next_batch():
        tries += 1
        given_up += dispatch.lost(batch, "deadline", "", alone=True)
    assert (tries, [o.attempt for o in given_up]) == (3, [3])


def test_a_batch_that_was_never_begun_goes_back_untouched() -> None:
    dispatch = Dispatch(CELLS[:4], {}, 2, attempts=1, purse=Purse())
    first, second = dispatch.next_batch() or [], dispatch.next_batch() or []
    dispatch.put_back(second)
    dispatch.lost(first, "worker_died", "", alone=False)
    assert dispatch.next_batch() == second
    assert dispatch.finished(Outcome.accepted(second[0], {})).attempt == 1


def heard(worker: object, cells: Sequence[Cell] = CELLS[:3]) -> list[Outcome | Trouble]:
    return list(work_through(worker, cells))  # type: ignore[arg-type]


def test_a_worker_is_held_to_one_outcome_per_cell() -> None:
    stranger = Recipe(stage="other", code="1").cell()

    def worker(cells: Sequence[Cell]) -> Iterable[Outcome]:
        yield Outcome.accepted(stranger, {})
        for cell in cells[1:]:
            yield Outcome.rejected(cell, "first")
            yield Outcome.accepted(cell, {})

    said = heard(worker)
    assert [(o.key, o.reasons) for o in said if isinstance(o, Outcome)] == [(c.key, ("first",)) for c in CELLS[1:3]]
    assert [t.reason for t in said if isinstance(t, Trouble)] == ["no_outcome"]


@pytest.mark.parametrize("value", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}, {"x": {1, 2}}])
def test_a_value_that_the_journal_cannot_hold_is_that_cells_failure(value: dict[str, object]) -> None:
    (outcome,) = heard(lambda cells: [Outcome.accepted(cells[0], value)], CELLS[:1])
    assert isinstance(outcome, Outcome)
    assert (outcome.verdict, outcome.reasons, outcome.value) == (Verdict.FAILED, ("value_not_json",), None)


def test_a_fresh_value_is_what_the_journal_would_give_back() -> None:
    (outcome,) = heard(lambda cells: [Outcome.accepted(cells[0], {"t": (1, 2), "u": {3: 4}})], CELLS[:1])
    assert isinstance(outcome, Outcome)
    assert outcome.value == {"t": [1, 2], "u": {"3": 4}}


def test_what_an_exception_says_stays_in_the_process() -> None:
    def worker(cells: Sequence[Cell]) -> Iterable[Outcome]:
        raise ValueError("Jane Doe, born 1950")

    (trouble,) = heard(worker)
    assert isinstance(trouble, Trouble)
    assert trouble.reason == "ValueError"
    assert "test_compute.py" in trouble.detail
    assert "Jane" not in repr(trouble)


@pytest.mark.parametrize("path", ["no.such.module:Worker", "json:NoSuchWorker", "json:dumps"])
def test_a_worker_that_cannot_be_built_is_one_clear_error(path: str) -> None:
    with pytest.raises(NightStoppedError, match="could not be built") as e:
        build_worker(path, RECIPE, Settings())
    assert path in e.value.where
    assert pickle.loads(pickle.dumps(e.value)).what == e.value.what


def test_inline_gives_every_cell_its_outcome() -> None:
    compute = open_compute(Settings(compute=ComputeSettings(mode="inline")))
    with pytest.raises(NightStoppedError):
        list(compute.run(Work(recipe=RECIPE, worker="json:Missing"), CELLS, {}, Purse()))
