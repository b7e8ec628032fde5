"""What may begin under a budget. Nothing here knows of processes or of the journal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgr2.infra.purse import UNLIMITED, Purse, Spent
from medgr2.schemas.cells import Outcome, Recipe
from medgr2.schemas.errors import UsageError
from medgr2.schemas.usage import Budget, Usage
from medgr2.schemas.vocabulary import Verdict

CELL = Recipe(stage="squares", code="1").cell()


def ended(usage: Usage | None, verdict: Verdict = Verdict.ACCEPTED) -> Outcome:
    return Outcome(CELL.key, verdict, {}, usage=usage)


def test_without_a_budget_everything_begins() -> None:
    purse = Purse()
    assert purse.begin(10_000) == 10_000
    purse.ended(ended(None))
    assert not purse.spent_up
    assert purse.room() > UNLIMITED // 2


def test_a_budget_of_calls_is_never_passed_though_a_cell_may_take_several() -> None:
    purse = Purse(Budget(calls=10), calls=3)
    assert purse.begin(9) == 3
    for _ in range(3):
        purse.ended(ended(Usage(calls=1)))
    assert purse.begin(9) == 2
    purse.ended(ended(Usage(calls=3)))
    purse.ended(ended(Usage(calls=3)))
    assert purse.begin(9) == 0
    assert purse.spent_up
    assert purse.line() == "9 of 10 calls"


def test_the_first_cell_of_a_budget_of_tokens_begins_alone_and_teaches_what_one_may_cost() -> None:
    purse = Purse(Budget(tokens=1000))
    assert [purse.begin(8), purse.begin(8)] == [1, 0]
    purse.ended(ended(Usage(calls=1, tokens_in=80, tokens_out=20)))
    assert purse.begin(100) == 1
    purse.ended(ended(Usage(calls=1, tokens_in=200, tokens_out=50)))
    assert purse.begin(100) == 2, "two of 250 are affordable, and no more are under way than were answered"
    purse.ended(ended(Usage(calls=1, tokens_in=250)))
    # One is under way, and may be as dear: 600 and twice 250 is more than there is.
    assert purse.begin(100) == 0
    assert not purse.spent_up


@given(st.integers(1, 4), st.integers(1, 100), st.lists(st.integers(1, 100), min_size=1, max_size=80))
def test_no_more_begins_than_was_answered_and_than_can_be_paid_if_all_are_as_dear_as_the_dearest(
    calls: int, cheap: int, costs: list[int]
) -> None:
    purse, under_way, bought, most = Purse(Budget(tokens=1000), calls=calls), 0, 0, 0
    for n, cost in enumerate([cheap, *costs]):
        begun = purse.begin(64)
        under_way += begun
        assert under_way <= max(1, n)
        assert not begun or bought + under_way * most <= 1000
        if under_way:
            under_way, bought, most = under_way - 1, bought + cost, max(most, cost)
            purse.ended(ended(Usage(calls=1, tokens_in=cost)))


def test_a_cell_of_which_one_call_is_known_is_reckoned_with_all_it_may_take() -> None:
    purse = Purse(Budget(tokens=1000), calls=2)
    purse.begin(1)
    purse.ended(ended(Usage(calls=1, tokens_in=400)))
    assert purse.begin(1) == 0
    assert purse.spent_up


def test_a_cell_that_took_more_calls_than_it_should_teaches_that_another_may() -> None:
    purse = Purse(Budget(calls=20), calls=2)
    purse.begin(1)
    purse.ended(ended(Usage(calls=8), Verdict.FAILED))
    assert purse.begin(9) == 1


def test_broken_replies_tell_no_tokens_and_are_no_reason_to_refuse() -> None:
    purse = Purse(Budget(tokens=50))
    purse.begin(1)
    purse.ended(ended(Usage(calls=4), Verdict.FAILED))
    assert purse.begin(5) == 1


def test_what_was_spent_before_counts_and_teaches() -> None:
    before = Spent(Usage(calls=4, money=0.9), Usage(calls=1, money=0.3))
    assert Purse(Budget(money=1.0), before).spent_up
    assert Purse(Budget(money=1.2), before).begin(5) == 1
    assert Purse(Budget(calls=5), before).begin(5) == 1


def test_the_tightest_of_several_limits_holds() -> None:
    before = Spent(Usage(calls=10, tokens_out=100), Usage(calls=1, tokens_out=10))
    assert Purse(Budget(calls=100, tokens=140), before).begin(99) == 4
    assert Purse(Budget(calls=12, tokens=5000), before).begin(99) == 2


@pytest.mark.parametrize(
    ("budget", "usage", "says"),
    [
        (Budget(calls=5), None, "calls"),
        (Budget(tokens=5), Usage(calls=1), "tokens"),
        (Budget(money=5), Usage(calls=1, tokens_in=9), "prices"),
    ],
)
def test_a_budget_of_what_nobody_counts_is_refused_at_the_first_reply(
    budget: Budget, usage: Usage | None, says: str
) -> None:
    purse = Purse(budget)
    purse.begin(1)
    with pytest.raises(UsageError, match=says):
        purse.ended(ended(usage))


def test_failures_that_cost_nothing_are_no_reason_to_refuse() -> None:
    purse = Purse(Budget(tokens=50))
    purse.begin(1)
    purse.ended(ended(None, Verdict.FAILED))
    assert purse.begin(5) == 1


@given(
    st.integers(0, 200),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), max_size=60),
)
def test_however_cells_begin_and_end_no_more_calls_are_bought_than_allowed(
    budget: int, most: int, moves: list[tuple[int, int]]
) -> None:
    purse, under_way, bought = Purse(Budget(calls=budget), calls=most), 0, 0
    for want, cost in [*moves, *[(1, 1)] * 20]:
        under_way += purse.begin(want)
        assert bought + under_way * most <= budget
        if under_way:
            under_way -= 1
            bought += min(cost, most)
            purse.ended(ended(Usage(calls=min(cost, most))))
    assert bought <= budget
    assert purse.spent_up == (under_way == 0 and budget - bought < most)
