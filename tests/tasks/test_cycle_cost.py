from __future__ import annotations

from typing import Any

import pytest

from medgr2.schemas.stopping import LoopBudget, Spent
from medgr2.tasks.cycle_cost import spent


def test_what_was_told_under_a_run_is_added_up_and_nothing_else(room: Any) -> None:
    bought = {"calls": 2, "tokens_in": 30, "tokens_out": 7, "money": 0.5, "stage": "generate", "outcome": "accepted"}
    rows = [bought | {"outcome_id": str(n), "run": run} for n, run in enumerate(("ds/one", "ds/one", "ds/two"))]
    free = {"outcome_id": "free", "run": "ds/one", "stage": "train", "outcome": "accepted"}
    room.lake.append_new("outcomes", [*rows, free], key="outcome_id")
    for n, (run, seconds) in enumerate((("ds/one", 1800.0), ("ds/one", 900.0), ("ds/two", 7200.0))):
        room.lake.append("runs", [{"run": run, "stage": "train", "seconds": seconds}], once=f"run{n}")
    assert spent(room.lake, "ds/one") == Spent(calls=4, tokens=74, money=1.0, hours=0.75)
    assert spent(room.lake, "ds/three") == Spent()


def test_a_budget_limits_something() -> None:
    with pytest.raises(ValueError, match="names calls, tokens, money or hours"):
        LoopBudget()
