"""What a stage may still begin: a budget, what was spent of it, and what those under way may yet cost."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass

from medgr2.schemas.cells import Outcome
from medgr2.schemas.errors import UsageError
from medgr2.schemas.usage import NOTHING_USED, Budget, Usage
from medgr2.schemas.vocabulary import Verdict

UNLIMITED = sys.maxsize


@dataclass(frozen=True, slots=True)
class Spent:
    """In all, and the most that one cell took of each kind."""

    total: Usage = NOTHING_USED
    dearest: Usage = NOTHING_USED

    def and_(self, usage: Usage) -> Spent:
        return Spent(self.total + usage, _dearest(self.dearest, usage))


class Purse:
    """Whoever begins a cell asks first. A begun cell is paid for until its outcome is known, whatever becomes of its
    batch or its process: so what is left at the end is always the last of the cells.

    Calls: each cell may take `calls` of them, or as many as one took because replies came broken. Tokens and money:
    nobody knows beforehand, so a cell is reckoned as dear as the dearest so far, or as `calls` usual ones; and no more
    cells are under way than there were calls, the first alone, so that a cheap beginning does not let too many in.
    """

    def __init__(self, budget: Budget | None = None, spent: Spent | None = None, calls: int = 1) -> None:
        self._budget = budget
        self._spent = spent or Spent()
        self._calls = calls
        self._begun = 0
        self._lock = threading.Lock()

    def begin(self, most: int) -> int:
        """How many of so many cells begin now."""
        with self._lock:
            n = min(most, self._room())
            self._begun += n
            return n

    def room(self) -> int:
        with self._lock:
            return self._room()

    def ended(self, outcome: Outcome) -> None:
        with self._lock:
            self._begun -= 1
            if self._budget is not None:
                self._check_counted(self._budget, outcome)
            self._spent = self._spent.and_(outcome.usage or NOTHING_USED)

    @property
    def limited(self) -> bool:
        return self._budget is not None

    @property
    def spent_up(self) -> bool:
        """Nothing is under way, and nothing will be."""
        with self._lock:
            return self._begun == 0 and self._room() == 0

    def line(self) -> str:
        """What was spent of what, for people."""
        budget, total = self._budget, self._spent.total
        if budget is None:
            return ""
        limits = ((budget.calls, total.calls, "calls"), (budget.tokens, total.tokens, "tokens"))
        parts = [f"{spent:,} of {limit:,} {name}" for limit, spent, name in limits if limit is not None]
        if budget.money is not None:
            parts.append(f"{total.money:.4g} of {budget.money:g} money")
        return ", ".join(parts)

    def _room(self) -> int:
        budget = self._budget
        if budget is None:
            return UNLIMITED
        total, dearest = self._spent.total, self._spent.dearest
        rooms = [UNLIMITED]
        if budget.calls is not None:
            rooms.append((budget.calls - total.calls) // max(self._calls, dearest.calls))
        if budget.tokens is not None or budget.money is not None:
            rooms.append(max(1, total.calls))
        for limit, spent, most in (
            (budget.tokens, total.tokens, dearest.tokens),
            (budget.money, total.money, dearest.money),
        ):
            if limit is not None:
                most = max(most, self._calls * spent / max(1, total.calls))
                # Money is a sum of fractions: a hair less than nothing left is nothing left.
                rooms.append(int((limit - spent) / most + 1e-9) if most else int(spent < limit))
        return max(0, min(rooms) - self._begun)

    @staticmethod
    def _check_counted(budget: Budget, outcome: Outcome) -> None:
        usage = outcome.usage
        if usage is None:
            if outcome.verdict is Verdict.ACCEPTED:
                raise _uncounted("calls", "use an engine that counts its calls, or leave the budget out")
        elif not usage.calls or outcome.verdict is Verdict.FAILED:
            return  # replies that came broken tell no tokens, whatever others do
        elif budget.tokens is not None and not usage.tokens:
            raise _uncounted("tokens", "give the budget in calls")
        elif budget.money is not None and not usage.money:
            raise _uncounted(
                "prices", "set MEDGR2_GENERATOR__PRICE_IN and __PRICE_OUT, or give the budget in calls or tokens"
            )


def _dearest(one: Usage, other: Usage) -> Usage:
    return Usage(
        max(one.calls, other.calls),
        max(one.tokens_in, other.tokens_in),
        max(one.tokens_out, other.tokens_out),
        max(one.seconds, other.seconds),
        max(one.money, other.money),
    )


def _uncounted(what: str, instead: str) -> UsageError:
    return UsageError(
        f"the budget cannot be kept: the replies come without {what}",
        where="--budget",
        kept="every finished cell",
        next_command=instead,
    )
