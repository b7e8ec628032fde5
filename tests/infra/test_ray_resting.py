"""Worker processes that rest between two stages: who comes back, as whom, and who does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from processes import alive, known
from ray_nodes import wait_until
from ray_stages import cells, run

from medgr2.infra.compute import Resources

pytest.importorskip("ray", reason="the extra 'ray' is not installed")


def stage(tmp_path: Path, **work: object) -> set[int]:
    """Who worked on it."""
    outcomes = run(tmp_path, cells(8), workers=1, worker="stage_workers:Environment", batch_size=1, **work)
    return {int(str((o.value or {})["pid"])) for o in outcomes}


def executed(tmp_path: Path) -> list[int]:
    return [int(line.split()[1]) for line in (tmp_path / "executions.log").read_text().splitlines()]


def wait_for_the_end(of: list[int]) -> None:
    wait_until(f"the end of {of}", lambda: not alive(of))


def test_the_next_stage_finds_who_is_there_with_its_own_worker_and_its_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDGR2_MODELS__BASE", "of the first stage")
    who = stage(tmp_path)
    monkeypatch.delenv("MEDGR2_MODELS__BASE")
    outcomes = run(tmp_path, cells(8), workers=1, worker="stage_workers:Environment", batch_size=1)
    assert {int(str((o.value or {})["pid"])) for o in outcomes} == who
    assert {(o.value or {})["MEDGR2_MODELS__BASE"] for o in outcomes} == {None}
    squares = run(tmp_path, cells(8), workers=1)
    assert [(o.value or {})["square"] for o in squares] == [n * n for n in range(8)]
    assert set(executed(tmp_path)) == who


def test_the_worker_of_a_stage_is_let_go_with_it(tmp_path: Path) -> None:
    run(tmp_path, cells(2), workers=1, worker="stage_workers:Parting")
    assert (tmp_path / "parted").read_text() == "1"


def test_who_died_at_rest_is_replaced_and_counts_for_nothing(tmp_path: Path) -> None:
    run(tmp_path, cells(40), batch_size=1)
    resting = [known(pid) for pid in set(executed(tmp_path))]
    assert 1 <= len(resting) <= 2
    for pid in resting:
        os.kill(pid, signal.SIGKILL)
    wait_for_the_end(resting)
    (tmp_path / "executions.log").unlink()
    assert len(run(tmp_path, cells(40), batch_size=1)) == 40
    assert not set(executed(tmp_path)) & set(resting)
    assert len(executed(tmp_path)) == 40


def test_who_has_grown_ends_with_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgr2.infra import ray_resting

    monkeypatch.setattr(ray_resting, "KEPT_BYTES", 1)
    (large,) = (known(pid) for pid in stage(tmp_path))
    wait_for_the_end([large])


def test_a_training_takes_nobody_and_leaves_nobody(tmp_path: Path) -> None:
    resting = stage(tmp_path)
    (trained,) = (known(pid) for pid in stage(tmp_path, saves=True))
    assert trained not in resting
    wait_for_the_end([trained])
    assert stage(tmp_path) == resting


def test_others_threads_are_others_processes(tmp_path: Path) -> None:
    one = stage(tmp_path)
    assert not stage(tmp_path, resources=Resources(cpus=2)) & one
