"""The actor pool in a real local Ray: poison, hangs, dead processes, broken workers. One Ray for all tests."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import alive, known
from ray_stages import RECIPE, cells, run, settings_at

from medgr2.infra.compute import Resources, Work
from medgr2.infra.purse import Purse
from medgr2.schemas.cells import Outcome
from medgr2.schemas.errors import NightStoppedError, SettingsError
from medgr2.schemas.vocabulary import Verdict

pytest.importorskip("ray", reason="the extra 'ray' is not installed")


def executions(tmp_path: Path) -> Counter[str]:
    log = tmp_path / "executions.log"
    return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()


def test_every_cell_has_one_outcome_and_was_done_once(tmp_path: Path) -> None:
    given = cells(50)
    outcomes = run(tmp_path, given, batch_size=7)
    assert {o.key: o.value["square"] for o in outcomes if o.value} == {c.key: c.inputs["n"] ** 2 for c in given}
    assert len(outcomes) == 50
    assert executions(tmp_path) == {c.key: 1 for c in given}


def test_poison_hangs_and_raisers_fail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgr2.infra import compute_ray

    bad = {3: "raise", 11: "die", 17: "hang", 40: "reject"}
    given = cells(60, bad)
    fill, left, hangs = compute_ray._Run._fill, list[float](), given[17].key

    def let_time_pass(self: compute_ray._Run) -> None:
        """For whoever hangs, and for nobody else, however slow the machine is."""
        fill(self)
        for lane in self._lanes:
            first = next(iter(lane.running[0].waiting), "") if lane.running else ""
            if first == hangs and executions(tmp_path)[hangs] > len(left):
                left.append(lane.due - time.monotonic())
                lane.due = time.monotonic()

    monkeypatch.setattr(compute_ray._Run, "_fill", let_time_pass)
    outcomes = {o.key: o for o in run(tmp_path, given, batch_size=20, attempts=2, deadline_seconds=600)}
    assert len(left) == 2
    assert all(0 < seconds <= 600 for seconds in left)
    got = {i: outcomes[given[i].key] for i in bad}
    assert {i: (o.verdict, o.reasons) for i, o in got.items()} == {
        3: (Verdict.FAILED, ("ValueError",)),
        11: (Verdict.FAILED, ("worker_died",)),
        17: (Verdict.FAILED, ("deadline",)),
        40: (Verdict.REJECTED, ("no_good",)),
    }
    assert (got[11].attempt, got[17].attempt) == (2, 2)
    assert sum(o.verdict is Verdict.ACCEPTED for o in outcomes.values()) == 56
    assert len(outcomes) == 60
    done = executions(tmp_path)
    assert done[given[11].key] == 2
    assert done[given[17].key] == 2
    assert max(done[given[i].key] for i in range(60) if i not in bad) == 1


def test_a_killed_process_costs_no_finished_cell(tmp_path: Path) -> None:
    from medgr2.infra.compute_ray import RayPool

    given, hold = cells(60), tmp_path / "hold"
    hold.write_text("10")
    work = Work(recipe=RECIPE, worker="held_workers:Holding", batch_size=30)
    outcomes: dict[str, Outcome] = {}
    killed = 0
    for outcome in RayPool.local(settings_at(tmp_path)).run(work, given, {}, Purse()):
        assert outcome.key not in outcomes
        outcomes[outcome.key] = outcome
        # As many as may end: the last ones are held, and one of them may have another one behind it.
        if len(outcomes) in (10, 24):
            pid = int((tmp_path / "executions.log").read_text().splitlines()[-1].split()[1])
            os.kill(pid, signal.SIGKILL)
            killed += 1
            hold.write_text("25") if killed == 1 else hold.unlink()
    assert killed == 2
    assert [outcomes[c.key].verdict for c in given] == [Verdict.ACCEPTED] * 60
    # Twice at most what each of two processes had in hand, and only because nobody had heard of it.
    again = [key for key, n in executions(tmp_path).items() if n > 1]
    assert len(again) <= 4


def test_a_finished_cell_is_heard_of_while_its_batch_goes_on(tmp_path: Path) -> None:
    from medgr2.infra.compute_ray import RayPool

    given = cells(4, {3: "hang"})
    work = Work(recipe=RECIPE, worker="stage_workers:Counting", batch_size=4)
    stream = RayPool.local(settings_at(tmp_path, workers=1)).run(work, given, {}, Purse())
    assert {next(stream).key for _ in range(3)} == {c.key for c in given[:3]}
    worker = known(int((tmp_path / "executions.log").read_text().split()[1]))
    stream.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 400
    while alive([worker]) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive([worker]), "the hanging worker outlived the run"


@pytest.mark.parametrize(
    ("worker", "says"),
    [("Unbuildable", "RuntimeError: no such model"), ("Stillborn", "does not start"), ("Missing", "AttributeError")],
)
def test_a_worker_that_cannot_start_stops_the_stage_once(tmp_path: Path, worker: str, says: str) -> None:
    with pytest.raises(NightStoppedError, match=says):
        run(tmp_path, cells(50), worker=f"stage_workers:{worker}", batch_size=1)


def test_processes_that_find_no_room_are_given_up_while_others_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster that lost a node: what is asked of it does not fit any more."""
    from medgr2.infra import compute_ray
    from medgr2.infra.ray_local import cores, start_ray

    started, impatient = compute_ray._Run._started, []

    def then_no_patience(self: compute_ray._Run, lane: compute_ray._Lane) -> Iterator[Outcome]:
        yield from started(self, lane)
        for other in self._lanes:
            if other.starting is not None:
                other.due = time.monotonic() + 0.2
                impatient.append(other)

    monkeypatch.setattr(compute_ray._Run, "_started", then_no_patience)
    start_ray()
    slow = RECIPE.model_copy(update={"parameters": {"seconds": 0.05}})
    given = [slow.cell(inputs={"n": i}) for i in range(60)]
    work = Work(recipe=slow, worker="stage_workers:Counting", batch_size=2)
    pool = compute_ray.RayPool(settings_at(tmp_path), 2 * cores() + 2, reserve=True)
    outcomes = list(pool.run(work, given, {}, Purse()))
    assert {o.key for o in outcomes} == {c.key for c in given}
    assert all(o.verdict is Verdict.ACCEPTED for o in outcomes)
    assert impatient


def test_a_worker_that_forgets_cells_fails_those_only(tmp_path: Path) -> None:
    given = cells(9, {4: "forget"})
    outcomes = {o.key: o for o in run(tmp_path, given, worker="stage_workers:Forgetful", batch_size=5)}
    assert {i: o.reasons for i, c in enumerate(given) if (o := outcomes[c.key]).verdict is Verdict.FAILED} == {
        4: ("no_outcome",)
    }


def test_workers_know_the_drivers_settings_and_use_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGR2_MODELS__BASE", "elsewhere")
    outcomes = run(tmp_path, cells(8), worker="stage_workers:Environment", batch_size=1)
    values = [o.value or {} for o in outcomes]
    assert {(v["OMP_NUM_THREADS"], v["MEDGR2_MODELS__BASE"]) for v in values} == {("1", "elsewhere")}
    assert os.getpid() not in {v["pid"] for v in values}


def test_a_gpu_stage_without_a_gpu_is_refused_at_once(tmp_path: Path) -> None:
    import ray

    from medgr2.infra.ray_local import start_ray

    start_ray()
    if ray.cluster_resources().get("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(SettingsError, match="needs 1 GPU"):
        run(tmp_path, cells(1), resources=Resources(gpus=1))


def test_a_death_is_told_as_an_outcome_and_not_on_stdout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = run(tmp_path, cells(4, {1: "die"}), batch_size=1, attempts=1)
    assert [o.reasons for o in outcomes if o.verdict is Verdict.FAILED] == [("worker_died",)]
    time.sleep(1)  # Ray tells of a death a moment later
    assert capfd.readouterr().out == ""
