"""The exam decides; what happened to the champion meanwhile is respected and does not end the loop."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

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


Passing = tuple[Workspace, Night, str]


@pytest.fixture
def passing(room: Any, monkeypatch: pytest.MonkeyPatch) -> Passing:
    """A night and a candidate that answers every question with its picture, and no other model any."""
    workspace = Workspace(settings=room.settings, store=room.store, lake=room.lake, images=room.images)
    registry = Registry(room.store, room.lake)
    base, candidate = (
        registry.register(Registration(role=role, artifact=letter * 64, method="given", run="r"))
        for role, letter in ((Role.BASE, "a"), (Role.POLICY, "b"))
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
    return workspace, night, candidate


def test_a_champion_that_moved_meanwhile_is_kept_and_the_loop_goes_on(passing: Passing) -> None:
    workspace, night, candidate = passing
    registry = Registry(workspace.store, workspace.lake)
    other = registry.register(Registration(role=Role.POLICY, artifact="c" * 64, method="given", run="r"))
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


def test_a_persons_no_keeps_the_champion_and_a_yes_is_kept_with_the_move(passing: Passing) -> None:
    workspace, night, candidate = passing
    registry, now = Registry(workspace.store, workspace.lake), datetime.now(UTC)
    no = Approval(approve=False, by="Dr. B", comment="worse on the ward", at=now)
    refused = sit(workspace, night, candidate, no)
    assert (refused.decision, refused.reasons[-1]) == ("champion kept", "not approved by Dr. B: worse on the ward")
    assert registry.history(Role.POLICY) == []
    yes = Approval(approve=True, by="Dr. A", comment="", at=now)
    assert sit(workspace, night, candidate, yes).decision == "promoted"
    (move,) = registry.history(Role.POLICY)
    assert move.reason.startswith("ds/one: better: 40 items won, 0 lost")
    assert move.reason.endswith("; approved by Dr. A")
    assert not promotion.open_question(workspace, candidate, promotion.sit(workspace, night, candidate, quiet))


def test_a_look_is_spent_also_by_who_fails_and_the_next_has_to_be_surer(passing: Passing) -> None:
    workspace, night, candidate = passing
    registry = Registry(workspace.store, workspace.lake)
    weak = registry.register(Registration(role=Role.POLICY, artifact="d" * 64, method="given", run="r"))
    failed = promotion.sit(workspace, night, weak, quiet)
    assert failed.decision == "champion kept"
    assert failed.reasons[-1].startswith("not better")
    level = promotion.sit(workspace, night, candidate, quiet).level
    assert level is not None
    assert (level.look, level.spent) == (2, pytest.approx(0.05 * 2 / 3))
    assert "level" in sit(workspace, night, candidate).line()
