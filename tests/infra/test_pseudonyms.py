"""The same name for the same input under one key, none without it."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgr2.infra.pseudonyms import Pseudonyms

ONE, OTHER = Pseudonyms(b"0123456789abcdef"), Pseudonyms(b"fedcba9876543210")


@given(st.text())
def test_a_uid_is_valid_and_stays_the_same(uid: str) -> None:
    made = ONE.uid(uid)
    assert re.fullmatch(r"2\.25\.(0|[1-9]\d*)", made)
    assert len(made) <= 64
    assert made == Pseudonyms(ONE.key).uid(uid)
    assert made != OTHER.uid(uid)


@given(st.text(), st.text())
def test_different_inputs_get_different_names(first: str, second: str) -> None:
    assert (ONE.uid(first) == ONE.uid(second)) == (first == second)
    assert (ONE.code("patient", first) == ONE.code("patient", second)) == (first == second)


@given(st.text())
def test_dates_move_back_by_at_most_ten_years(patient: str) -> None:
    assert -3650 <= ONE.days(patient) <= -1
    assert ONE.days(patient) == Pseudonyms(ONE.key).days(patient)


def test_shifts_spread_over_the_whole_range() -> None:
    shifts = [ONE.days(f"patient {n}") for n in range(2000)]
    assert min(shifts) < -3500
    assert max(shifts) > -150
    assert len(set(shifts)) > 1000


def test_purposes_do_not_mix() -> None:
    assert ONE.code("study", "1.2.3") != ONE.code("patient", "1.2.3")
    assert ONE.code("a", "b:c") != ONE.code("a:b", "c")


def test_the_key_is_not_shown_and_survives_a_process_border() -> None:
    assert "0123456789" not in repr(ONE)
    assert pickle.loads(pickle.dumps(ONE)).uid("1.2.3") == ONE.uid("1.2.3")


def test_a_short_key_is_refused_without_being_quoted() -> None:
    with pytest.raises(ValueError) as refused:
        Pseudonyms(b"hunter2")
    assert "hunter2" not in str(refused.value)
