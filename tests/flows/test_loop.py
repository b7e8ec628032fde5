"""Cycles that are finished and cycles that wait, without a server: the flow's own function, on small roots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medgr2.flows import loop
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.cycle_reports import CycleReport, NightReport
from medgr2.schemas.errors import DataError
from medgr2.schemas.parameters import LoopParameters
from medgr2.schemas.reports import AppraisalReport, GenerateReport, Plan, PublishReport
from medgr2.schemas.vocabulary import Role


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    return open_workspace()


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
    first = loop.closed_loop.fn(LoopParameters(cycles=2))
    assert loop.closed_loop.fn(LoopParameters(cycles=2)) == first
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
    by_people = LoopParameters.model_validate({"cycles": 3, "refresh": {"dataset": "loop"}})
    cycles = lived(monkeypatch, calibration=None)
    assert len(loop.closed_loop.fn(by_people)) == 1
    assert cycles == [1]
    cycles = lived(monkeypatch)
    assert len(loop.closed_loop.fn(by_people)) == 3
    assert cycles == [1, 2, 3]
    assert not list(workspace.store.list("cycles/"))
