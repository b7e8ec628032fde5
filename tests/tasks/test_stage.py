"""A stage as the product runs it: plan, reuse, retries, limits, conservation, and what the lake is told."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from medgr2.infra import journal as journal_module
from medgr2.infra.compute import Work
from medgr2.infra.journal import Journal
from medgr2.infra.lake import Lake
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.progress import ProgressLine, Tally
from medgr2.infra.purse import Purse
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.infra.workspace import open_workspace
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import DataError, NightStoppedError, StorageError
from medgr2.schemas.reports import Plan
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks import stage_record
from medgr2.tasks.stage import StageRequest, StageResult, plan, record, run_and_record, run_stage

HERE = str(Path(__file__).parent)
# Before any test starts Ray: its processes inherit it.
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([HERE, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
sys.path.insert(0, HERE)

RECIPE = Recipe(stage="squares", code="1")


def cells(n: int, bad: Mapping[int, str] | None = None, recipe: Recipe = RECIPE) -> list[Cell]:
    return [recipe.cell(inputs={"n": i} | ({"do": bad[i]} if bad and i in bad else {})) for i in range(n)]


class Site:
    """A root, and runs of one stage on it."""

    def __init__(self, tmp_path: Path, **compute: object) -> None:
        self.log = tmp_path / "executions.log"
        self.settings = Settings(
            storage=StorageSettings(root=str(tmp_path / "root")),
            compute=ComputeSettings.model_validate({"mode": "inline", **compute}),
        )
        self.store = FolderStore(self.settings.storage.root)
        self.plans: list[Plan] = []

    def run(self, given: Sequence[Cell], recipe: Recipe = RECIPE, **request: object) -> StageResult:
        return run_stage(
            self.request(recipe, **request),
            given,
            settings=self.settings,
            store=self.store,
            on_plan=self.plans.append,
        )

    @staticmethod
    def request(recipe: Recipe = RECIPE, **request: object) -> StageRequest:
        return StageRequest.model_validate(
            {"recipe": recipe, "worker": "stage_workers:Counting", "run": "night-1", **request}
        )

    def executions(self) -> Counter[str]:
        return (
            Counter(line.split()[0] for line in self.log.read_text().splitlines()) if self.log.exists() else Counter()
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def counts(made: Plan) -> tuple[int, int, int, int]:
    return made.found, made.new, made.reused, made.retried


def test_a_second_run_buys_nothing_and_gives_the_same(site: Site) -> None:
    given = cells(40, {5: "reject", 6: "raise"})
    first = site.run(given, attempts=1)
    second = site.run(given, attempts=1)
    assert second.outcomes == first.outcomes
    assert list(second.outcomes) == [c.key for c in given]
    assert [counts(p) for p in site.plans] == [(40, 40, 0, 0), (40, 0, 40, 0)]
    assert (second.report.accepted, second.report.rejected, second.report.failed) == (38, 1, 1)
    assert second.report.reasons == {"no_good": 1, "ValueError": 1}


def test_a_grown_night_buys_only_what_is_new_and_duplicates_count_once(site: Site) -> None:
    site.run(cells(10))
    result = site.run([*cells(15), *cells(15)])
    assert counts(site.plans[-1]) == (15, 5, 10, 0)
    assert len(result.cells) == len(result.outcomes) == 15
    assert set(site.executions().values()) == {1}


def test_a_changed_recipe_buys_everything_again(site: Site) -> None:
    site.run(cells(5))
    assert RECIPE.digest
    other = RECIPE.model_copy(update={"prompt": "another"})
    site.run(cells(5, recipe=other), other)
    assert counts(site.plans[-1]) == (5, 5, 0, 0)


def test_a_failed_cell_is_tried_on_later_nights_until_its_attempts_are_spent(site: Site) -> None:
    given = cells(30, {7: "raise"})
    attempts = [site.run(given).outcomes[given[7].key].attempt for _ in range(5)]
    assert attempts == [1, 2, 3, 3, 3]
    assert [p.retried for p in site.plans] == [0, 1, 1, 0, 0]


def test_the_plan_is_told_before_anything_is_spent_and_costs_nothing(site: Site) -> None:
    told: list[int] = []
    request = site.request().settled(site.settings)
    made = plan(request, cells(5), Journal(site.store, "squares"))
    assert counts(made) == (5, 5, 0, 0)
    run_stage(
        request,
        cells(5),
        settings=site.settings,
        store=site.store,
        on_plan=lambda _: told.append(len(site.executions())),
    )
    assert told == [0]


def test_results_do_not_depend_on_batches_workers_or_where_they_ran(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    given = cells(60, {5: "reject", 9: "raise", 33: "nan"})
    ways = [("inline", 1, 1), ("inline", 1, 64), ("ray-local", 1, 9), ("ray-local", 2, 5)]
    results = []
    for i, (mode, workers, batch) in enumerate(ways):
        (tmp_path / str(i)).mkdir()
        results.append(Site(tmp_path / str(i), mode=mode, workers=workers).run(given, batch_size=batch))
    assert all(r.outcomes == results[0].outcomes for r in results)
    assert all(list(r.outcomes) == list(results[0].outcomes) for r in results)


def test_one_raising_cell_in_a_hundred_is_a_percent_of_failures_no_more(site: Site) -> None:
    given = cells(500, dict.fromkeys(range(0, 500, 100), "raise"))
    report = site.run(given).report
    assert (report.accepted, report.failed, report.reasons) == (495, 5, {"ValueError": 5})


def test_too_many_failures_stop_the_night_early_and_keep_what_is_done(site: Site) -> None:
    given = cells(100, dict.fromkeys(range(20, 100), "raise"))
    with pytest.raises(NightStoppedError, match="of 100 cells failed") as e:
        site.run(given, batch_size=4)
    assert "ValueError" in e.value.where
    assert "20 finished" in e.value.kept
    assert "MEDGR2_COMPUTE__FAILURE_LIMIT" in e.value.next_command
    assert len(site.executions()) < 60
    held = Journal(site.store, "squares").outcomes()
    assert sum(o.verdict is Verdict.ACCEPTED for o in held.values()) == 20


def test_a_small_stage_is_judged_at_its_end(site: Site) -> None:
    with pytest.raises(NightStoppedError, match="3 of 6"):
        site.run(cells(6, {0: "raise", 1: "raise", 2: "raise"}))
    assert len(site.executions()) == 6


def test_failures_at_the_limit_are_tolerated(site: Site) -> None:
    assert site.run(cells(10, {0: "raise", 1: "raise"}), failure_limit=0.2).report.failed == 2


def test_a_stage_of_nothing_is_fine(site: Site) -> None:
    assert site.run([]).report.conserved()


class Odd:
    """A compute that loses a cell, or speaks of one that nobody asked for."""

    durable = False

    def __init__(self, said: list[Outcome]) -> None:
        self._said = said

    def run(self, work: Work, cells: Sequence[Cell], tries: Mapping[str, int], purse: Purse) -> Iterator[Outcome]:
        yield from self._said


@pytest.mark.parametrize("said", [cells(3)[:2], [*cells(3), RECIPE.cell(inputs={"n": 99})]])
def test_a_breach_of_conservation_is_an_error(site: Site, said: list[Cell]) -> None:
    with pytest.raises(DataError, match="found 3 cells"):
        run_stage(
            site.request(),
            cells(3),
            settings=site.settings,
            store=site.store,
            compute=Odd([Outcome.accepted(c, {}) for c in said]),
        )


def test_a_store_that_fills_up_stops_the_stage(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(key: str, data: bytes) -> bool:
        raise StorageError("no space left on device")

    monkeypatch.setattr(site.store, "create", create)
    with pytest.raises(StorageError, match="no space"):
        site.run(cells(50))


@pytest.mark.parametrize("mode", ["inline", "ray-local"])
def test_a_store_that_a_worker_loses_stops_the_stage_and_costs_no_attempt(tmp_path: Path, mode: str) -> None:
    if mode == "ray-local":
        pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    site = Site(tmp_path, mode=mode, workers=1)
    with pytest.raises(StorageError, match="the bucket is gone") as e:
        site.run(cells(30, {12: "bucket"}), batch_size=30)
    assert e.value.next_command == "bring it back"
    held = Journal(site.store, "squares").outcomes()
    assert {o.verdict for o in held.values()} == {Verdict.ACCEPTED}
    assert len(held) == 12


def test_ctrl_c_keeps_what_is_finished(site: Site) -> None:
    def stop(tally: Tally) -> None:
        if tally.done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(site.request(), cells(40), settings=site.settings, store=site.store, on_progress=stop)
    assert len(Journal(site.store, "squares").outcomes()) == 13
    site.run(cells(40))
    assert set(site.executions().values()) == {1}


def test_cells_of_a_damaged_segment_are_done_again_and_that_is_said(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    first = site.run(cells(10))
    for info in list(site.store.list("journal/")):
        site.store.put(info.key, b"rotten")
    second = site.run(cells(10))
    assert second.outcomes == first.outcomes
    assert set(site.executions().values()) == {2}
    assert second.damaged
    assert "is damaged" in caplog.text


def test_the_lake_is_told_once_however_often_it_is_told(site: Site) -> None:
    workspace = open_workspace(site.settings)
    given = cells(30, {7: "raise", 8: "reject"})
    for _ in range(5):
        result = run_and_record(site.request(), given, workspace, site.plans.append)
        record(workspace.lake, site.request(), result)
    rows = workspace.lake.read("outcomes").to_pylist()
    assert Counter((row["key"], row["attempt"]) for row in rows) == Counter(
        [(c.key, 1) for c in given] + [(given[7].key, 2), (given[7].key, 3)]
    )
    assert Counter(row["outcome"] for row in rows) == {"accepted": 28, "rejected": 1, "failed": 3}
    assert all("stage_workers.py" in row["detail"] for row in rows if row["reason"] == "ValueError")
    runs = workspace.lake.read("runs").sort_by("finished_at").to_pylist()
    assert [(r["found"], r["new"], r["retried"], r["failed"]) for r in runs] == [
        (30, 30, 0, 1),
        (30, 0, 1, 1),
        (30, 0, 1, 1),
    ]


def test_what_fails_in_one_run_and_ends_well_in_another_is_told_of_both(site: Site) -> None:
    """As when two runs go side by side, or when the journal loses a segment in between."""
    workspace = open_workspace(site.settings)
    (cell,) = given = cells(1)
    failed = Outcome(cell.key, Verdict.FAILED, None, ("OSError",), "disk", 1)
    for lost in (False, True, False):
        for info in list(site.store.list("journal/")):
            site.store.delete(info.key)
        if lost:
            Journal(site.store, "squares").append([failed])
        run_and_record(site.request(attempts=1, failure_limit=1), given, workspace, site.plans.append)
    assert sorted(workspace.lake.read("outcomes")["outcome"].to_pylist()) == ["accepted", "failed"]


def test_outcomes_reach_the_lake_though_the_first_run_died_before_it_told(site: Site) -> None:
    site.run(cells(12))
    workspace = open_workspace(site.settings)
    run_and_record(site.request(), cells(12), workspace, site.plans.append)
    assert workspace.lake.read("outcomes").num_rows == 12


def test_of_many_cells_only_those_that_the_lake_does_not_hold_are_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, told = open_workspace(site.settings), []
    append_new = Lake.append_new

    def counted(self: Lake, table: str, rows: pa.Table, *, key: str) -> int:
        told.append(rows.num_rows)
        return append_new(self, table, rows, key=key)

    monkeypatch.setattr(stage_record, "FEW", 5)
    monkeypatch.setattr(stage_record, "TOLD_AT_ONCE", 8)
    monkeypatch.setattr(Lake, "append_new", counted)
    run_and_record(site.request(), cells(20), workspace, site.plans.append)
    assert told == [8, 8, 4]
    told.clear()
    site.run(cells(23))  # dies before it tells
    run_and_record(site.request(), cells(30), workspace, site.plans.append)
    assert (counts(site.plans[-1]), told) == ((30, 7, 23, 0), [8, 2])
    told.clear()
    run_and_record(site.request(), cells(30), workspace, site.plans.append)
    assert told == []
    rows = workspace.lake.read("outcomes")["key"].to_pylist()
    assert Counter(rows) == {c.key: 1 for c in cells(30)}


def test_nothing_is_read_of_what_was_done_before_until_somebody_asks(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.run(cells(30))
    with monkeypatch.context() as blind:
        blind.setattr(journal_module, "decode_rows", None)
        result = site.run(cells(40))
        assert (result.report.accepted, result.asked) == (40, 40)
        assert [cell for cell, _ in zip(result.cells, range(40), strict=True) if cell.key in result.outcomes] == cells(
            40
        )
        assert result.outcomes[cells(40)[35].key].value is not None, "what is fresh is at hand"
    assert [o.value["square"] for _, o in result.pairs() if o.value] == [n * n for n in range(40)]


def test_runs_that_agree_have_one_digest_and_others_another(tmp_path: Path) -> None:
    digests = []
    for n, bad in enumerate([{3: "reject"}, {3: "reject"}, {4: "reject"}]):
        (tmp_path / str(n)).mkdir()
        site = Site(tmp_path / str(n))
        if n == 1:
            site.run(cells(7, bad))
        digests.append(site.run(cells(20, bad), batch_size=n + 3).digest)
    assert digests[0] == digests[1] != digests[2]


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine("squares")
    line(Tally(total=2, done=2, failed=1))
    line.close()
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_says_how_far(tmp_path: Path) -> None:
    with (tmp_path / "tty").open("w+", newline="") as stream:
        stream.isatty = lambda: True  # type: ignore[method-assign]
        line = ProgressLine("squares", stream)
        line(Tally(total=2, done=2, failed=1))
        line.close()
        stream.seek(0)
        text = stream.read()
    assert text.startswith("\rsquares: 2/2, ")
    assert text.endswith("1 failed\n")
