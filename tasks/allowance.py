"""Allowance: what is left of a night's budget for cells that the night did not begin with.

A stage reckons with what its own cells cost. A night that was asked in another style, or of another revision, before it
was run again has paid for cells that are none of those: the lake knows of which night they were.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.infra.lake import Lake
from medgr2.schemas.cells import Cell
from medgr2.schemas.usage import NOTHING_USED, Budget, Usage

_COUNTED = ("calls", "tokens_in", "tokens_out", "money")


def allowance(lake: Lake, budget: Budget, cells: tuple[Cell, ...], *, stage: str, run: str) -> Budget:
    """The budget without what the night paid for others than these cells."""
    elsewhere = spent_elsewhere(lake, cells, stage=stage, run=run)
    if elsewhere == NOTHING_USED:
        return budget
    return Budget(
        calls=None if budget.calls is None else max(0, budget.calls - elsewhere.calls),
        tokens=None if budget.tokens is None else max(0, budget.tokens - elsewhere.tokens),
        money=None if budget.money is None else max(0.0, budget.money - elsewhere.money),
    )


def spent_elsewhere(lake: Lake, cells: tuple[Cell, ...], *, stage: str, run: str) -> Usage:
    told = lake.read("outcomes", ["key", *_COUNTED], {"stage": stage, "run": run})
    own = pa.array([cell.key for cell in cells], pa.string())
    others = told.filter(pc.invert(pc.is_in(told["key"], value_set=own)))
    sums = {name: pc.sum(others[name]).as_py() or 0 for name in _COUNTED}
    return Usage(**sums)
