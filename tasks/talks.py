"""Cells whose worker holds conversations: a feed of cells in, an outcome of each as its conversation ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from medgr2.schemas.cells import Cell, Outcome


def talk(
    engine: Any,
    cells: Iterable[Cell | None],
    converse: Callable[[Cell], Any],
    outcome_of: Callable[[Cell, Any], Outcome],
) -> Iterator[Outcome]:
    """An engine's trouble fails its cell; `outcome_of` says what a result comes to. None in the feed is a pause."""
    begun: dict[str, Cell] = {}

    def conversations() -> Iterator[Any]:
        for cell in cells:
            if cell is None:
                yield None
            else:
                begun[cell.key] = cell
                yield cell.key, converse(cell)

    for held in engine.hold(conversations()):
        cell = begun.pop(held.name)
        if held.trouble is not None:
            outcome = Outcome.failed(cell, held.trouble.reason, held.trouble.detail)
        else:
            outcome = outcome_of(cell, held.result)
        yield replace(outcome, usage=held.usage)
