"""One worker fed cell by cell: never more under way than allowed, and its troubles are those of its cells alone."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from medgr2.infra.compute import Work
from medgr2.infra.compute_stream import Feed, Streamed
from medgr2.infra.purse import Purse
from medgr2.infra.settings import Settings
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import NightStoppedError, SettingsError, StorageError
from medgr2.schemas.usage import Budget, Usage
from medgr2.schemas.vocabulary import Verdict

RECIPE = Recipe(stage="squares", code="1")
sys.path.insert(0, str(Path(__file__).parent))
log: list[str] = []


def cells(n: int, bad: dict[int, str] | None = None) -> list[Cell]:
    return [RECIPE.cell(inputs={"n": i} | ({"do": bad[i]} if bad and i in bad else {})) for i in range(n)]


class Server:
    """Holds up to eight cells at a time and answers the newest first; `do` says how to misbehave."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        pass

    def __call__(self, feed: Iterable[Cell | None]) -> Iterator[Outcome]:
        held: list[Cell] = []
        for cell in feed:
            if cell is not None:
                log.append(cell.key)
                held.append(cell)
                if len(held) < 8:
                    continue
            if held:
                yield self.answer(held.pop())
        while held:
            yield self.answer(held.pop())

    def answer(self, cell: Cell) -> Outcome:
        match cell.inputs.get("do"):
            case "raise":
                raise ValueError(f"the patient is called {cell.inputs['n']}")
            case "settings":
                raise SettingsError("no such model")
            case "stop":
                raise NightStoppedError("the server is away")
        return Outcome(cell.key, Verdict.ACCEPTED, {"n": cell.inputs["n"]}, usage=Usage(calls=1))


class Deaf(Server):
    """Ends at once, or after a few cells, and never draws what it is not made to."""

    def __call__(self, feed: Iterable[Cell | None]) -> Iterator[Outcome]:
        if isinstance(feed, list):
            yield from super().__call__(feed)


class Sudden(Server):
    def __call__(self, feed: Iterable[Cell | None]) -> Iterator[Outcome]:
        raise RuntimeError("not even begun")


class Durable:
    """Outcomes become durable some time after they were told: at every third look, or when somebody is in a hurry."""

    def __init__(self, lag: int = 0) -> None:
        self.told, self._lag, self._looks, self._hurried = 0, lag, 0, False

    @property
    def durable(self) -> int:
        self._looks += 1
        late = self._lag and self._looks % self._lag and not self._hurried
        self._hurried = False
        return max(0, self.told - 3) if late else self.told

    def hurry(self) -> None:
        self._hurried = True


def run(given: list[Cell], worker: str = "Server", in_flight: int = 8, purse: Purse | None = None) -> list[Outcome]:
    log.clear()
    durable, purse = Durable(lag=3), purse or Purse()
    work = Work(recipe=RECIPE, worker=f"{__name__.rpartition('.')[2]}:{worker}")
    outcomes = []
    for outcome in Streamed(Settings(), in_flight, durable).run(work, given, {}, purse):
        outcomes.append(outcome)
        durable.told += 1
        purse.ended(outcome)
    return outcomes


@pytest.fixture(autouse=True)
def _same_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__.rpartition(".")[2], sys.modules[__name__])


def test_every_cell_has_one_outcome_and_begins_in_order() -> None:
    given = cells(50)
    outcomes = run(given)
    assert Counter(o.key for o in outcomes) == {c.key: 1 for c in given}
    assert log == [c.key for c in given]


@pytest.mark.parametrize("in_flight", [1, 3, 8, 100])
def test_cells_without_a_durable_outcome_never_exceed_the_limit(in_flight: int) -> None:
    given, durable, most = cells(60), Durable(), 0
    feed = Feed(given, Purse(), in_flight, durable)
    drawn = answered = 0
    for cell in feed:
        if cell is not None:
            drawn += 1
            most = max(most, drawn - durable.told)
        elif answered < drawn:
            answered += 1
        else:
            durable.told = answered  # all that is answered is written: only now may more begin
    assert (drawn, most) == (60, min(in_flight, 60))


def test_a_feed_may_be_drawn_from_while_outcomes_are_told_elsewhere() -> None:
    given, durable, purse = cells(400), Durable(), Purse(Budget(calls=300))
    feed = Feed(given, purse, 16, durable)
    drawn: list[Cell] = []

    def draw() -> None:
        for cell in feed:
            if cell is not None:
                drawn.append(cell)

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    end = time.monotonic() + 400
    told = 0
    while thread.is_alive() or told < len(drawn):
        assert time.monotonic() < end, f"stuck at {told} of {len(drawn)}"
        if told < len(drawn):
            assert len(drawn) - durable.told <= 16
            purse.ended(Outcome(drawn[told].key, Verdict.ACCEPTED, {}, usage=Usage(calls=1)))
            feed.waiting.pop(drawn[told].key)
            told += 1
            durable.told = told
    assert drawn == given[:300]
    assert feed.ended


def test_a_raising_cell_fails_alone_and_costs_no_other_cell_its_outcome() -> None:
    given = cells(60, {5: "raise", 31: "raise"})
    outcomes = {o.key: o for o in run(given)}
    assert len(outcomes) == 60
    assert {i for i, c in enumerate(given) if outcomes[c.key].verdict is Verdict.FAILED} == {5, 31}
    failed = outcomes[given[5].key]
    assert failed.reasons == ("ValueError",)
    assert "patient" not in failed.detail
    assert max(Counter(log).values()) == 2


@pytest.mark.parametrize(("worker", "reason"), [("Sudden", "RuntimeError"), ("Deaf", None)])
def test_a_worker_that_begins_nothing_is_handed_its_cells_one_by_one(worker: str, reason: str | None) -> None:
    outcomes = run(cells(5), worker)
    assert len(outcomes) == 5
    assert {o.reasons for o in outcomes} == ({(reason,)} if reason else {()})


@pytest.mark.parametrize(("do", "error"), [("settings", SettingsError), ("stop", NightStoppedError)])
def test_what_is_no_cells_fault_stops_the_stage(do: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(cells(40, {12: do}))


def test_a_journal_that_cannot_be_written_is_not_waited_for() -> None:
    class Full(Durable):
        @property
        def durable(self) -> int:
            if log:
                raise StorageError("no space left on device")
            return 0

    log.clear()
    work = Work(recipe=RECIPE, worker=f"{__name__.rpartition('.')[2]}:Server")
    with pytest.raises(StorageError, match="no space"):
        list(Streamed(Settings(), 4, Full()).run(work, cells(20), {}, Purse()))


def test_a_budget_ends_the_feed_and_what_is_done_is_the_first_of_the_cells() -> None:
    given = cells(50, {3: "raise"})
    outcomes = run(given, purse=Purse(Budget(calls=20)))
    assert {o.key for o in outcomes} == {c.key for c in given[: len(outcomes)]}
    assert sum(o.usage.calls for o in outcomes if o.usage) == 20


def test_closing_the_stream_closes_the_worker() -> None:
    closed = []

    class Held(Server):
        def __call__(self, feed: Iterable[Cell | None]) -> Iterator[Outcome]:
            try:
                yield from super().__call__(feed)
            finally:
                closed.append(True)

    globals()["Held"] = Held
    work = Work(recipe=RECIPE, worker=f"{__name__.rpartition('.')[2]}:Held")
    stream = Streamed(Settings(), 8, Durable()).run(work, cells(20), {}, Purse())
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert closed == [True]
