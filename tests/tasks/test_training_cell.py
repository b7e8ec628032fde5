"""One training, one cell: two processes that want the same one do not write into each other's checkpoints."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from medgr2.infra import notice
from medgr2.models.reward_training import RewardSettings
from medgr2.models.sft import SftSettings
from medgr2.schemas.errors import DataError, NightInterruptedError, NightStoppedError
from medgr2.schemas.vocabulary import Role, Verdict
from medgr2.tasks.reward_train import RewardPlan, reward_recipe
from medgr2.tasks.train import WORKER, TrainPlan, train_cell, train_recipe
from medgr2.tasks.training_cell import train_once, training_request

SFT = TrainPlan(role=Role.POLICY, sft=SftSettings(steps=2, batch=2))


def test_a_cell_that_another_process_trains_is_waited_for_and_costs_no_try(room: Any) -> None:
    """Else whoever asks three times meanwhile gives the cell up, and a loop that was killed never goes on."""
    source = room.source("nightly", [room.item(room.picture(n), n) for n in range(3)])
    recipe = train_recipe(SFT, room.base)
    cell = train_cell(recipe, room.lake, [source])
    locks: list[Path] = []

    def note(out: Path) -> dict[str, Any]:
        locks.append(out.parent / "lock")
        out.mkdir()
        (out / "config.json").write_text("{}")
        return {}

    train_once(cell, room.settings, room.store, lambda: note)
    (locks[0].parent / "done.json").unlink()
    with locks[0].open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(3):
            with pytest.raises(NightStoppedError, match="another process is training") as busy:
                room.run(recipe, WORKER, [cell])
            assert "same command again" in busy.value.next_command
    assert room.run(recipe, WORKER, [cell])[cell.key].verdict is Verdict.ACCEPTED


def test_notice_that_comes_in_the_last_step_ends_the_stage_and_keeps_the_model(room: Any) -> None:
    source = room.source("nightly", [room.item(room.picture(n), n) for n in range(3)])
    cell = train_cell(train_recipe(SFT, room.base), room.lake, [source])
    trained: list[Path] = []

    def train(out: Path) -> dict[str, Any]:
        trained.append(out)
        out.mkdir()
        (out / "config.json").write_text("{}")
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    with pytest.raises(NightInterruptedError, match="had just come to its end"):
        train_once(cell, room.settings, room.store, lambda: train)
    assert not notice.given()
    assert train_once(cell, room.settings, room.store, lambda: train).verdict is Verdict.ACCEPTED
    assert len(trained) == 1


def test_a_verdict_leaves_no_checkpoint(room: Any) -> None:
    source = room.source("nightly", [room.item(room.picture(n), n) for n in range(3)])
    cell = train_cell(train_recipe(SFT, room.base), room.lake, [source])
    work: list[Path] = []

    def give_up(out: Path) -> dict[str, Any]:
        work.append(out.with_name("model.work"))
        work[0].mkdir(parents=True)
        (work[0] / "optimizer.pt").write_bytes(b"large")
        raise DataError("the reward is constant")

    assert train_once(cell, room.settings, room.store, lambda: give_up).reasons == ("not_trainable",)
    assert not work[0].exists()


def test_a_training_on_a_gpu_asks_for_one_and_for_time_to_save(room: Any) -> None:
    """Ray hides the GPUs from who did not, and ends a worker at once that is not to be asked."""
    gpu = TrainPlan(role=Role.POLICY, sft=SftSettings(device="cuda"))
    for plan, gpus in ((SFT, 0), (gpu, 1)):
        work = training_request(train_recipe(plan, room.base), WORKER, "night").settled(room.settings).work()
        assert (work.resources.gpus, work.saves) == (gpus, True)
    assert training_request(train_recipe(gpu, room.base), WORKER, "night", 4).resources.gpus == 4
    reward = reward_recipe(RewardPlan(settings=RewardSettings(device="cuda")), room.base)
    assert training_request(reward, "medgr2.tasks.reward_train:RewardTrainWorker", "night").resources.gpus == 1
