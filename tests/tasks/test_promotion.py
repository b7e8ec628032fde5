"""The exam decides; what happened to the champion meanwhile is respected and does not end the loop."""

from __future__ import annotations

from typing import Any

import pytest

from medgr2.infra.images import ImageStore
from medgr2.infra.workspace import Workspace
from medgr2.models.measures import Answer, summarise
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.approvals import Approval
from medgr2.schemas.cycle_reports import Exam
from medgr2.schemas.reports import Plan
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import promotion
from medgr2.tasks.examination import CONDITIONS
from medgr2.tasks.night import Night


def quiet(plan: Plan) -> None:
    del plan


def sit(workspace: Workspace, night: Night, candidate: str, approval: Approval | None = None) -> Exam:
    return promotion.settle(workspace, night, candidate, promotion.sit(workspace, night, candidate, quiet), approval)


def test_a_champion_that_moved_meanwhile_is_kept_and_the_loop_goes_on(
    room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: ImageStore = room.images
    workspace = Workspace(settings=room.settings, store=room.store, lake=room.lake, images=images)
    registry = Registry(room.store, room.lake)
    base, candidate, other = (
        registry.register(Registration(role=role, artifact=letter * 64, method="given", run="r"))
        for role, letter in ((Role.BASE, "a"), (Role.POLICY, "b"), (Role.POLICY, "c"))
    )
    room.publish("heldout", [room.item(room.picture(1), 1, "human")])

    def examine(_workspace: object, model_id: str, *_: object) -> Any:
        rows = [
            {
                "item_id": f"{i:064x}", "image_id": f"{i:064x}", "modality": "CT", "question_type": "q",
                "condition": condition, "correct": model_id == candidate and condition == "image", "parsed": True,
            }
            for i in range(40)
            for condition in CONDITIONS
        ]  # fmt: skip
        seen = [Answer(r["item_id"], r["image_id"], "CT", "q", r["correct"], True) for r in rows]
        return summarise(seen), rows

    monkeypatch.setattr(promotion, "examine", examine)
    night = Night(
        run="ds/one", dataset="ds", base_id=base, base="a" * 64, generator="a" * 64, scorer="a" * 64,
        champion_id=None, images="0" * 64, history=None,
    )  # fmt: skip
    registry.promote(Role.POLICY, other, reason="another loop was faster", expected_current=None)
    for _ in range(2):
        exam = sit(workspace, night, candidate)
        assert exam.level is not None
        assert (exam.level.look, exam.level.spent) == (1, 0.025), "killed and run again, the night spends nothing twice"
        assert exam.decision == "champion kept"
        assert "not unset as expected" in exam.reasons[-1]
        assert registry.champion(Role.POLICY) == other
    tomorrow = night.model_copy(update={"champion_id": other})
    assert sit(workspace, tomorrow, candidate).decision == "promoted"
    assert registry.champion(Role.POLICY) == candidate
