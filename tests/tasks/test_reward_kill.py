"""A cycle's reward, cut off at every step that leaves something behind and begun again: as if nobody had disturbed it.

The cuts are interrupts just after the step; that a killed process leaves no half of an object or a
commit is tested in tests/crash and tests/infra.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scripted_ward import Ward, copied, quiet

from medgr2.infra import versions
from medgr2.models.registry import Registry
from medgr2.schemas.cycle_reports import GateReport, RewardTrial
from medgr2.schemas.parameters import REWARD_LESSONS, TrainParameters
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import reward, reward_evidence, reward_train, reward_trial, training_cell
from medgr2.tasks.night import open_night

HOW = TrainParameters(judge_steps=2, judge_members=1)


class Killed(KeyboardInterrupt):
    pass


def lived(ward: Ward) -> RewardTrial:
    workspace, how = ward.workspace, ward.how("one")
    return reward.co_train(workspace, open_night(workspace, how), how, HOW, 3, quiet)


def left(ward: Ward) -> dict[str, Any]:
    workspace = ward.workspace
    rewards = workspace.lake.read("models", where={"role": Role.REWARD.value}).to_pylist()
    return {
        "lessons": [(one.version, one.digest) for one in versions.versions(workspace.lake, REWARD_LESSONS)],
        "evidence": sorted(one.key for one in workspace.store.list("rewards/evidence/")),
        "rewards": sorted((row["model_id"], row["artifact"]) for row in rewards),
        "uses": sorted(
            (row["model_id"], row["version"])
            for row in workspace.lake.read("uses", where={"dataset": REWARD_LESSONS}).to_pylist()
        ),
        "moves": [
            (move.action, move.model_id) for move in Registry(workspace.store, workspace.lake).history(Role.REWARD)
        ],
        "models": sorted(one.key for one in workspace.store.list("models/") if one.key.endswith("manifest.json")),
    }


def cut(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, nth: int = 1) -> list[int]:
    really: Callable[..., Any] = getattr(where, name)
    calls: list[int] = []

    def until(*args: Any, **more: Any) -> Any:
        done = really(*args, **more)
        calls.append(1)
        if len(calls) == nth:
            raise Killed
        return done

    monkeypatch.setattr(where, name, until)
    return calls


def test_killed_anywhere_and_begun_again(ward: Ward, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    promotes = GateReport(promote=True, reasons=("AUROC 0.9, before 0.8",), audits=60)
    monkeypatch.setattr(reward_trial, "decide", lambda *_, **__: promotes)
    undisturbed = copied(ward, tmp_path / "undisturbed")
    whole = lived(undisturbed)
    assert whole.decision == "promoted"
    expected = left(undisturbed)
    assert lived(undisturbed) == whole
    assert left(undisturbed) == expected
    for where, name, nth in (
        (versions, "publish", 1),
        (reward_evidence, "_key", 1),
        (training_cell, "put_folder", 1),
        (training_cell, "put_folder", 2),
        (reward_train, "put_folder", 1),
        (Registry, "record_use", 1),
        (Registry, "register", 2),
        (reward_trial, "measure", 1),
        (Registry, "promote", 1),
    ):
        with monkeypatch.context() as cutting:
            cut(cutting, where, name, nth)
            with pytest.raises(Killed):
                lived(ward)
    assert lived(ward) == whole
    assert left(ward) == expected
