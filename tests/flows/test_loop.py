"""Cycles that are finished and cycles that wait, without a server: the flow's own function, on small roots."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from medgr2.flows import loop
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.alarms import figures
from medgr2.models.precision import wilson
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.approvals import Approval
from medgr2.schemas.cycle_reports import Accuracy, CycleReport, Exam, Gain, NightReport, RewardTrial
from medgr2.schemas.errors import DataError
from medgr2.schemas.parameters import LoopParameters
from medgr2.schemas.reports import AppraisalReport, AuditedShare, DatasetVersion, GenerateReport, Plan, PublishReport
from medgr2.schemas.stopping import Spent
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import promotion
from medgr2.tasks.night import Night

NIGHT = Night(
    run="loop/1", dataset="loop", base_id="a" * 64, base="a" * 64, generator="a" * 64, scorer="a" * 64,
    champion_id=None, images="0" * 64, history=None,
)  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    return open_workspace()


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """No server listens."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(loop, "emit_event", lambda name, **more: told.append({"event": name, **more}))
    with disable_run_logger():
        yield told


def cycle_of(cycle: int, *, calibration: str | None = "c", **told: Any) -> CycleReport:
    plan = Plan(stage="generate", recipe="r", found=1, new=1, reused=0, retried=0)
    night = NightReport(
        run=f"loop/{cycle}",
        intake=None,
        generate=GenerateReport(plan=plan, accepted=1, rejected=0, failed=0, reasons={}, seconds=0),
        appraisal=AppraisalReport(
            drafts=1, accepted=0, rejected=1, failed=0, reasons={}, calibration=calibration,
            uncalibrated_because="", audits=0, auroc=None, ece=None,
        ),
        publish=PublishReport(drafts=1, added=0, left_out={}, letters={}, version=None),
    )  # fmt: skip
    return CycleReport(cycle=cycle, night=night, **told)


def forever(cycles: int, **more: Any) -> LoopParameters:
    return LoopParameters.model_validate({"cycles": cycles, "stop": {"patience": 0, "precision": False}} | more)


def lived(monkeypatch: pytest.MonkeyPatch, **told: Any) -> list[int]:
    cycles: list[int] = []

    def live(_parameters: object, _tonight: object, cycle: int) -> CycleReport:
        cycles.append(cycle)
        return cycle_of(cycle, **told)

    monkeypatch.setattr(loop, "live", live)
    return cycles


def test_a_finished_cycle_is_read_and_its_record_must_be_whole(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycles = lived(monkeypatch)
    first = loop.closed_loop.fn(forever(2))
    assert loop.closed_loop.fn(forever(2)) == first
    assert cycles == [1, 2]
    record = min(o.key for o in workspace.store.list("cycles/"))
    for damaged in (b"", b"{}", b"\xff\x00"):
        workspace.store.put(record, damaged)
        with pytest.raises(DataError, match="damaged") as raised:
            loop.turn(LoopParameters(), 1)
        assert record in raised.value.where
    workspace.store.delete(record)
    assert loop.turn(LoopParameters(), 1) == first[0]


def test_a_record_without_its_rows_is_no_finished_cycle(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(workspace.store, workspace.lake)
    known = registry.register(Registration(role=Role.POLICY, artifact="a" * 64, method="given", run="r"))
    lived(monkeypatch, candidate=known)
    assert loop.turn(LoopParameters(), 1) == loop.turn(LoopParameters(), 1)
    lived(monkeypatch, candidate="f" * 64)
    loop.turn(LoopParameters(), 2)
    with pytest.raises(DataError, match="not there: no model 'ffff"):
        loop.turn(LoopParameters(), 2)


def test_where_people_review_a_cycle_that_waits_for_them_is_the_last(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_people = forever(3, refresh={"dataset": "loop"})
    cycles = lived(monkeypatch, calibration=None)
    assert len(loop.closed_loop.fn(by_people)) == 1
    assert cycles == [1]
    cycles = lived(monkeypatch)
    assert len(loop.closed_loop.fn(by_people)) == 3
    assert cycles == [1, 2, 3]
    assert not list(workspace.store.list("cycles/"))


def test_a_cycle_whose_candidate_nobody_could_be_asked_about_is_lived_again_and_asks(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = exam_of(0.01).model_copy(update={"decision": "passed", "reasons": ("better",)})
    by_a_person = LoopParameters(approval="person")
    monkeypatch.setattr(loop, "ask_person", lambda *_: None)
    open_still = loop.promote(NIGHT, "b" * 64, passed, by_a_person)
    assert open_still.decision == "passed"
    assert open_still.reasons[1].endswith(f"medgr2 promote {'b' * 12} takes it still")
    cycles = lived(monkeypatch, exam=open_still)
    for _ in range(2):
        loop.turn(by_a_person, 1)
    assert cycles == [1, 1]
    refused = Approval(approve=False, by="Dr. B", at=datetime.now(UTC))
    monkeypatch.setattr(loop, "ask_person", lambda *_: refused)
    monkeypatch.setattr(loop, "settle", functools.partial(promotion.settle, workspace))
    answered = loop.promote(NIGHT, "b" * 64, passed, by_a_person)
    assert (answered.decision, answered.reasons[-1]) == ("champion kept", "not approved by Dr. B")
    cycles = lived(monkeypatch, exam=answered)
    for _ in range(2):
        loop.turn(by_a_person, 1)
    assert cycles == [1], "an answer is history"


def exam_of(low: float) -> Exam:
    told = Accuracy(value=0.8, low=0.7, high=0.9)
    gain = Gain(value=low + 0.02, low=low, high=low + 0.04, wins=9, losses=3, p_value=0.1)
    return Exam(
        heldout="heldout@1", items=300, candidate=told, champion=told, blind=0.2, swapped=0.2,
        decision="champion kept", reasons=("not clearly better",), gain=gain,
    )  # fmt: skip


def gains(monkeypatch: pytest.MonkeyPatch, *lows: float) -> list[int]:
    """Cycles whose gains have these lower bounds."""
    cycles: list[int] = []

    def live(_parameters: object, _tonight: object, cycle: int) -> CycleReport:
        cycles.append(cycle)
        return cycle_of(cycle, exam=exam_of(lows[cycle - 1]))

    monkeypatch.setattr(loop, "live", live)
    return cycles


def test_two_cycles_in_a_row_without_a_clear_gain_end_the_loop(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]
) -> None:
    cycles = gains(monkeypatch, -0.01, 0.01, -0.01, -0.02, 0.03)
    reports = loop.closed_loop.fn(LoopParameters(cycles=5))
    assert cycles == [1, 2, 3, 4], "one alone does not"
    stop = reports[-1].stop
    assert stop is not None
    assert (stop.after, stop.ground) == (4, "no gain")
    assert stop.reason == "no clear gain in 2 cycles in a row: +0.010 [-0.010, +0.030], +0.000 [-0.020, +0.020]"
    assert [report.stop for report in reports[:-1]] == [None, None, None]
    (record,) = workspace.store.list("stops/")
    assert json.loads(workspace.store.get(record.key)) == stop.model_dump(mode="json")
    assert events[0]["event"] == "medgr2.loop.stopped"


def test_the_same_command_reads_a_stopped_loop_and_another_patience_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycles = gains(monkeypatch, -0.01, -0.02, -0.03, 0.03)
    first = loop.closed_loop.fn(LoopParameters(cycles=4))
    assert loop.closed_loop.fn(LoopParameters(cycles=4)) == first
    assert cycles == [1, 2]
    further = loop.closed_loop.fn(forever(4))
    assert cycles == [1, 2, 3, 4], "what is finished is read, also under other stop rules"
    assert [report.stop for report in further] == [None] * 4
    assert len(list(workspace.store.list("stops/"))) == 1


def test_a_fallen_precision_ends_the_loop_and_a_spent_budget_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived(monkeypatch, fallen="audited precision fell")
    (only,) = loop.closed_loop.fn(
        LoopParameters.model_validate(
            {
                "cycles": 3,
                "refresh": {"night": "a", "source": "embedded", "score": {"reviewer": "phantoms"}, "dataset": "loop"},
            }
        )
    )
    assert only.stop is not None
    assert (only.stop.ground, only.stop.reason) == ("precision", "audited precision fell")
    lived(monkeypatch)
    monkeypatch.setattr(loop, "spent", lambda _lake, _run: Spent(calls=40))
    limited = forever(
        5,
        stop={"patience": 0, "budget": {"calls": 100}},
        refresh={"night": "b", "source": "embedded", "score": {"reviewer": "phantoms"}, "dataset": "loop"},
    )
    reports = loop.closed_loop.fn(limited)
    assert len(reports) == 2, "a third would pass the limit"
    assert reports[-1].stop is not None
    assert reports[-1].stop.reason == "80 of 100 calls are spent, and a cycle has cost up to 40"


def test_the_seconds_of_a_cycle_are_told_only_where_they_are_all_seen(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived(monkeypatch)
    assert loop.turn(LoopParameters(), 1).cpu_seconds is None, "Ray's workers are not this process"
    monkeypatch.setenv("MEDGR2_COMPUTE__MODE", "inline")
    assert loop.turn(LoopParameters(), 2).cpu_seconds is not None


def test_a_night_whose_precision_fell_teaches_no_policy_and_no_generator(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = cycle_of(1).night
    held = DatasetVersion(
        dataset="loop", version=2, publish_id="p", digest="d" * 64, items=9, added=3, removed=0, run="loop/1"
    )
    night = night.model_copy(update={"publish": night.publish.model_copy(update={"version": held, "added": 3})})
    monkeypatch.setattr(loop, "refresh", lambda _: night)
    monkeypatch.setattr(loop, "open_night", lambda *_: None)
    monkeypatch.setattr(loop, "co_train", lambda *_: RewardTrial(decision="trained all the same"))
    monkeypatch.setattr(loop.vigil, "night_before", lambda *_: figures("loop/0", [], [], share(0.95)))
    taught: list[str] = []
    monkeypatch.setattr(loop, "train", lambda *_: taught.append("policy"))
    monkeypatch.setattr(loop, "regenerate", lambda *_: taught.append("generator"))
    appraisal = night.appraisal.model_copy(update={"precision": share(0.6)})
    night = night.model_copy(update={"appraisal": appraisal})
    (report,) = loop.closed_loop.fn(LoopParameters(cycles=1))
    assert taught == []
    assert report.fallen.endswith("since loop/0")
    assert report.decision == f"nothing is learned from this night: {report.fallen}"
    assert report.reward is not None
    assert report.stop is not None
    assert report.stop.ground == "precision"


def share(value: float) -> AuditedShare:
    low, high = wilson(value, 40)
    return AuditedShare(audited=40, value=value, low=low, high=high)
