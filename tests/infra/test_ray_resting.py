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


@pytest.fixture(autouse=True)
def nobody_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still is no reason to end anybody here."""
    from medgr2.infra import ray_resting

    monkeypatch.setattr(ray_resting, "ANSWER_SECONDS", 400)
    for one in ray_resting.RESTING._all:
        ray_resting.end(one.actor)
    ray_resting.RESTING._all = []


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
    assert len(who) == 1
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


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP], ids=["died", "hangs"])
def test_who_does_not_answer_is_replaced_and_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal_number: int
) -> None:
    from medgr2.infra import compute_ray, ray_resting

    (resting,) = (known(pid) for pid in stage(tmp_path))
    os.kill(resting, signal_number)
    if signal_number == signal.SIGKILL:
        wait_for_the_end([resting])
    monkeypatch.setattr(ray_resting, "ANSWER_SECONDS", 2)  # the new one is asked nothing before its stage is over
    monkeypatch.setattr(compute_ray, "START_FAILURES", 1)
    try:
        assert resting not in stage(tmp_path)
    finally:
        if alive([resting]):
            os.kill(resting, signal.SIGKILL)


def test_who_finds_no_room_ends_with_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgr2.infra import ray_resting

    monkeypatch.setattr(ray_resting, "SHARE", 10**9)
    (large,) = (known(pid) for pid in stage(tmp_path))
    wait_for_the_end([large])


def test_no_more_rest_than_there_are_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgr2.infra import ray_resting

    (first,) = (known(pid) for pid in stage(tmp_path))
    monkeypatch.setattr(ray_resting, "cores", lambda: 1)
    (last,) = stage(tmp_path, resources=Resources(cpus=2))
    wait_for_the_end([first])
    assert stage(tmp_path, resources=Resources(cpus=2)) == {last}


def test_an_interrupt_while_they_lie_down_ends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgr2.infra import ray_resting

    def interrupted(_: object) -> dict[object, object]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ray_resting, "_answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, cells(2), workers=1)
    (pid,) = set(executed(tmp_path))
    wait_for_the_end([pid])


def test_a_training_takes_nobody_and_leaves_nobody(tmp_path: Path) -> None:
    resting = stage(tmp_path)
    (trained,) = (known(pid) for pid in stage(tmp_path, saves=True))
    assert trained not in resting
    wait_for_the_end([trained])
    assert stage(tmp_path) == resting


def test_others_threads_are_others_processes(tmp_path: Path) -> None:
    one = stage(tmp_path)
    assert not stage(tmp_path, resources=Resources(cpus=2)) & one
