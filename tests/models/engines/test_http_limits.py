"""How the number in flight follows what the server says."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from medgr2.models.engines.http_limits import LONGEST_PAUSE, OPENS_AFTER, Breaker, Gauge, backoff


@given(st.integers(1, 512), st.lists(st.booleans(), max_size=4000))
def test_the_limit_stays_between_one_and_the_most(most: int, replies: list[bool]) -> None:
    gauge = Gauge(most)
    for busy in replies:
        gauge.heard(busy=busy)
        assert 1 <= gauge.limit <= most


def test_a_server_that_is_always_busy_is_asked_by_one() -> None:
    gauge = Gauge(64)
    for _ in range(1000):
        gauge.heard(busy=True)
    assert gauge.limit == 1
    for _ in range(64 * 64):
        gauge.heard(busy=False)
    assert gauge.limit == 64, "and it recovers"


def test_a_sprinkle_of_busy_replies_changes_nothing_much() -> None:
    gauge, chance = Gauge(64), random.Random(3)
    limits = []
    for _ in range(50_000):
        gauge.heard(busy=chance.random() < 0.05)
        limits.append(gauge.limit)
    assert sum(limits) / len(limits) > 60


def test_it_settles_near_what_the_server_can_take() -> None:
    gauge, capacity = Gauge(64), 20
    for _ in range(20_000):
        # Of as many as are in flight, those above the capacity are told to go away.
        gauge.heard(busy=random.Random(gauge.limit).random() < max(0, gauge.limit - capacity) / gauge.limit)
    assert 0.5 * capacity <= gauge.limit <= 1.5 * capacity


def test_the_breaker_opens_after_many_and_closes_after_one() -> None:
    breaker = Breaker(3)
    pauses = [breaker.bad() for _ in range(OPENS_AFTER - 1)]
    assert pauses == [0.0] * len(pauses)
    assert not breaker.open
    longer = [breaker.bad() for _ in range(10)]
    assert breaker.open
    assert longer[0] > 0
    assert longer == sorted(longer)
    assert longer[-1] == LONGEST_PAUSE
    breaker.good()
    assert not breaker.open
    assert breaker.bad() == 0.0


def test_one_row_that_has_all_its_tries_does_not_open_it() -> None:
    breaker = Breaker(21)
    for _ in range(20):
        assert breaker.bad() == 0.0


def test_those_that_failed_together_do_not_come_back_together() -> None:
    waits = {backoff(1, seed) for seed in range(100)}
    assert len(waits) > 50
    assert all(0 < backoff(tries, 7) <= 1.5 * LONGEST_PAUSE for tries in range(50))
    assert backoff(6, 7) > backoff(1, 7)
