"""What a person types as a budget."""

from __future__ import annotations

import pytest

from medgr2.flows.forms import budget_of, fill
from medgr2.schemas.errors import UsageError
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.usage import Budget


def test_a_budget_is_read() -> None:
    assert budget_of("") is None
    how = fill(GenerateParameters, {"budget": budget_of("calls=1000, tokens=2000000,money=5.5")}, "refresh")
    assert how.budget == Budget(calls=1000, tokens=2_000_000, money=5.5)
    assert fill(GenerateParameters, {"budget": budget_of("calls=0")}, "refresh").budget == Budget(calls=0)


@pytest.mark.parametrize("text", ["1000", "calls", "dollars=5", "calls=1,calls=2", ",", "calls=1,"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        budget_of(text)
    assert "--budget calls=1000" in refused.value.next_command


@pytest.mark.parametrize("text", ["calls=many", "calls=-1", "money=nan", "tokens=1.5"])
def test_a_limit_is_a_number(text: str) -> None:
    with pytest.raises(UsageError):
        fill(GenerateParameters, {"budget": budget_of(text)}, "refresh")
