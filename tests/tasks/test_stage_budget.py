"""Budgets: what is bought is a prefix, it is never passed, and a night that stops anywhere spends it once."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.progress import Tally
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.infra.workspace import open_workspace
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import DataError, NightStoppedError, UsageError
from medgr2.schemas.usage import Budget, Usage
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.stage import StageRequest, StageResult, run_and_record, run_stage

HERE = str(Path(__file__).parent)
# Before any test starts Ray: its processes inherit it.
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([HERE, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
sys.path.insert(0, HERE)

RECIPE = Recipe(stage="asked", code="1")
MOST = 3


def cells(n: int) -> list[Cell]:
    return [RECIPE.cell(inputs={"n": i}) for i in range(n)]


def cost(cell: Cell) -> int:
    return 1 + cell.seed % MOST


class Buyer:
    """Takes one to three calls a cell, of ten tokens each, and fails one in nine at its first try."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._log = Path(settings.storage.root).parent / "bought.log"

    def __call__(self, given: Iterable[Cell | None]) -> Iterator[Outcome]:
        held: list[Cell] = []
        for cell in given:
            if cell is not None:
                held.append(cell)
            if held and (cell is None or len(held) == 5):
                yield self.bought(held.pop())
            elif cell is None:
                time.sleep(0.001)
        while held:
            yield self.bought(held.pop())

    def bought(self, cell: Cell) -> Outcome:
        calls = cost(cell)
        with self._log.open("a") as f:
            f.write(f"{cell.key} {calls}\n")
        verdict = Verdict.FAILED if cell.inputs.get("fails") else Verdict.ACCEPTED
        reasons = ("unreadable",) if verdict is Verdict.FAILED else ()
        usage = Usage(calls=calls, tokens_in=6 * calls, tokens_out=4 * calls, money=0.25 * calls)
        return Outcome(cell.key, verdict, {"n": cell.inputs["n"]}, reasons, usage=usage)


class Uncounted(Buyer):
    def bought(self, cell: Cell) -> Outcome:
        return Outcome.accepted(cell, {})


class Site:
    def __init__(self, folder: Path, mode: str = "inline", in_flight: int | None = 12) -> None:
        folder.mkdir(exist_ok=True)
        self.log = folder / "bought.log"
        self.settings = Settings(
            storage=StorageSettings(root=str(folder / "root")),
            compute=ComputeSettings.model_validate({"mode": mode, "workers": 2, "failure_limit": 1}),
        )
        self.store = FolderStore(self.settings.storage.root)
        self.in_flight = in_flight

    def request(self, worker: str = "Buyer") -> StageRequest:
        return StageRequest(
            recipe=RECIPE,
            worker=f"test_stage_budget:{worker}",
            run="night",
            in_flight=self.in_flight,
            calls=MOST,
            batch_size=4,
        )

    def run(
        self, given: list[Cell], budget: Budget | None, since: int | None = None, stop_at: int | None = None
    ) -> StageResult:
        def stop(tally: Tally) -> None:
            if tally.done == stop_at:
                raise KeyboardInterrupt

        return run_stage(
            self.request(),
            given,
            settings=self.settings,
            store=self.store,
            on_plan=lambda _: None,
            on_progress=stop,
            budget=budget,
            since=since,
        )

    def bought(self) -> list[tuple[str, int]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]


WAYS = {"streamed": ("inline", 12), "batches": ("inline", None), "pool": ("ray-local", None)}


def site(tmp_path: Path, way: str) -> Site:
    if way == "pool":
        pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    return Site(tmp_path / way, *WAYS[way])


def affordable(given: list[Cell], calls: int) -> int:
    """How many of the first cells a budget of calls buys: one is begun only if its dearest case can be paid."""
    spent = 0
    for n, cell in enumerate(given):
        if calls - spent < MOST:
            return n
        spent += cost(cell)
    return len(given)


@pytest.mark.parametrize("way", WAYS)
def test_a_budget_of_calls_buys_the_first_of_the_cells_and_no_call_more(tmp_path: Path, way: str) -> None:
    given, here = cells(120), site(tmp_path, way)
    result = here.run(given, Budget(calls=100))
    calls = sum(cost(c) for c in given[: result.asked])
    assert result.asked == affordable(given, 100)
    assert 100 - MOST < calls <= 100
    assert [c.key for c in given[: result.asked]] == list(result.outcomes)
    report = result.report
    assert (report.accepted, report.left, report.usage.calls) == (result.asked, 120 - result.asked, calls)
    assert report.conserved()
    assert f"{report.left} left: the budget is spent ({calls} of 100 calls)" in report.line()
    assert [cell for cell, _ in result.pairs()] == given[: result.asked]


@pytest.mark.parametrize("budget", [Budget(tokens=700), Budget(money=17.5)], ids=["tokens", "money"])
@pytest.mark.parametrize("way", ["streamed", "batches"])
def test_a_budget_of_tokens_or_money_is_not_passed_either(tmp_path: Path, way: str, budget: Budget) -> None:
    given, here = cells(120), site(tmp_path, way)
    result = here.run(given, budget)
    usage = result.report.usage
    assert 70 - 2 * MOST <= usage.calls <= 70
    assert (usage.tokens, usage.money) == (10 * usage.calls, 0.25 * usage.calls)
    assert len(result.outcomes) == result.asked


def test_more_budget_goes_on_where_the_smaller_one_ended(tmp_path: Path) -> None:
    given, here, since = cells(120), site(tmp_path, "streamed"), time.time_ns()
    first = here.run(given, Budget(calls=60), since)
    again = here.run(given, Budget(calls=60), since)
    assert (again.report.usage.calls, again.asked, again.report.left) == (0, first.asked, first.report.left)
    more = here.run(given, Budget(calls=100), since)
    assert more.asked == affordable(given, 100)
    assert max(Counter(key for key, _ in here.bought()).values()) == 1
    whole = here.run(given, None)
    assert (whole.asked, whole.report.left, len(here.bought())) == (120, 0, 120)


@pytest.mark.parametrize("way", ["streamed", "batches"])
def test_a_night_that_is_stopped_again_and_again_spends_its_budget_once(tmp_path: Path, way: str) -> None:
    given, here, since = cells(120), site(tmp_path, way), time.time_ns()
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            here.run(given, Budget(calls=100), since, stop_at=9)
    result = here.run(given, Budget(calls=100), since)
    assert result.asked == affordable(given, 100)
    assert sum(o.usage.calls for o in result.outcomes.values() if o.usage) <= 100


def test_a_failed_try_was_paid_for_and_stays_so_through_merges(tmp_path: Path) -> None:
    here, since = site(tmp_path, "streamed"), time.time_ns()
    given = [RECIPE.cell(inputs={"n": 1, "fails": True})]
    calls = cost(given[0])
    for n in range(1, 4):
        result = here.run(given, Budget(calls=100), since)
        assert result.outcomes[given[0].key].attempt == n
        assert result.report.budget == f"{n * calls} of 100 calls"
    journal = Journal(here.store, "asked")
    others = Recipe(stage="asked", code="other")
    for n in range(40):
        journal.append([Outcome.accepted(others.cell(inputs={"n": n}), {})])
    assert journal.merge() > 0
    assert Journal(here.store, "asked").spent([given[0].key], since).total.calls == 3 * calls
    assert Journal(here.store, "asked").spent([given[0].key], time.time_ns()).total.calls == 0


def test_what_was_bought_on_another_night_or_for_other_cells_is_not_tonights(tmp_path: Path) -> None:
    given, here = cells(90), site(tmp_path, "streamed")
    here.run(given[60:], None)
    tonight = time.time_ns()
    assert here.run(given[:60], Budget(calls=50), tonight).asked == affordable(given[:60], 50)


def test_failures_are_a_share_of_what_was_begun(tmp_path: Path) -> None:
    here = site(tmp_path, "streamed")
    given = [RECIPE.cell(inputs={"n": n, "fails": n % 2 == 0}) for n in range(2000)]
    with pytest.raises(NightStoppedError, match="more than the limit of 20%") as e:
        run_stage(
            here.request().model_copy(update={"failure_limit": 0.2}),
            given,
            settings=here.settings,
            store=here.store,
            budget=Budget(calls=60),
        )
    assert "x unreadable" in e.value.where


def test_a_budget_needs_somebody_who_counts(tmp_path: Path) -> None:
    here = site(tmp_path, "streamed")
    with pytest.raises(UsageError, match="without calls"):
        run_stage(here.request("Uncounted"), cells(9), settings=here.settings, store=here.store, budget=Budget(calls=5))


def test_the_lake_is_told_what_each_cell_and_each_run_cost(tmp_path: Path) -> None:
    here = site(tmp_path, "streamed")
    workspace = open_workspace(here.settings)
    given = cells(40)
    result = run_and_record(here.request(), given, workspace, lambda _: None, budget=Budget(calls=30))
    rows = workspace.lake.read("outcomes").to_pylist()
    by_key = {c.key: c for c in given}
    assert [(r["calls"], r["tokens_in"], r["tokens_out"], r["money"]) for r in rows] == [
        (n, 6 * n, 4 * n, 0.25 * n) for n in (cost(by_key[r["key"]]) for r in rows)
    ]
    (run,) = workspace.lake.read("runs").to_pylist()
    assert (run["calls"], run["not_begun"]) == (sum(r["calls"] for r in rows), 40 - len(rows))
    assert result.asked == len(rows)


def test_a_cell_without_an_outcome_is_a_breach_unless_a_budget_left_it(tmp_path: Path) -> None:
    class Lost:
        durable = False

        def run(self, work: object, given: list[Cell], tries: object, purse: object) -> Iterator[Outcome]:
            yield from (Outcome.accepted(c, {}) for c in given[:3])

    here = site(tmp_path, "batches")
    with pytest.raises(DataError, match="found 5 cells"):
        run_stage(here.request(), cells(5), settings=here.settings, store=here.store, compute=Lost())  # type: ignore[arg-type]
