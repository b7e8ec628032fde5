"""Asking a person without a server: at the terminal, or not at all. The form of a server is asked in tests/e2e."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from medgr2.flows import approval
from medgr2.flows.approval import ask_person
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.approvals import ApprovalDesk
from medgr2.schemas.cycle_reports import Accuracy, Exam, Gain
from medgr2.schemas.errors import DataError
from medgr2.tasks.night import Night

CANDIDATE = "b" * 64
NIGHT = Night(
    run="ds/one", dataset="ds", base_id="a" * 64, base="a" * 64, generator="a" * 64, scorer="a" * 64,
    champion_id=None, images="0" * 64, history=None,
)  # fmt: skip
EXAM = Exam(
    heldout="heldout@1", items=300, blind=0.25, swapped=None, decision="passed", reasons=("better",), champion=None,
    candidate=Accuracy(value=0.84, low=0.8, high=0.88),
    gain=Gain(value=0.06, low=0.03, high=0.09, wins=24, losses=6, p_value=0.0014),
)  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return open_workspace()


def desk(workspace: Workspace) -> ApprovalDesk:
    return ApprovalDesk(workspace.store, candidate=CANDIDATE, champion=None, heldout="heldout@1")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person types, the last first."""
    typed: list[str] = []
    monkeypatch.setattr(approval, "_has_terminal", lambda: True)
    monkeypatch.setattr(click.termui, "visible_prompt_func", lambda _: typed.pop())
    return typed


def test_at_the_terminal_the_question_is_put_once(
    workspace: Workspace, terminal: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal += ["read twenty", "Dr. A", "y"]
    said = ask_person(workspace, NIGHT, CANDIDATE, EXAM, 12)
    assert (said.approve, said.text()) == (True, "approved by Dr. A: read twenty")
    shown = capsys.readouterr().out
    for number in ("0.840 [0.800, 0.880]", "+0.060 [+0.030, +0.090]", "24 items won, 6 lost, p = 0.0014", "0.250"):
        assert number in shown
    assert ask_person(workspace, NIGHT, CANDIDATE, EXAM, 12) == said, "nobody is asked a second time"


def test_no_is_what_a_mere_return_says(workspace: Workspace, terminal: list[str]) -> None:
    terminal += ["", "Dr. B", ""]
    assert ask_person(workspace, NIGHT, CANDIDATE, EXAM, 12).text() == "not approved by Dr. B"


def test_where_nobody_can_be_asked_the_champion_is_kept_and_the_question_stays_open(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, terminal: list[str]
) -> None:
    monkeypatch.setattr(approval, "_has_terminal", lambda: False)
    said = ask_person(workspace, NIGHT, CANDIDATE, EXAM, 12)
    assert not said.approve
    assert said.text().endswith(f"medgr2 promote {CANDIDATE[:12]} takes it still")
    assert desk(workspace).said() is None
    monkeypatch.setattr(approval, "_has_terminal", lambda: True)
    terminal += ["", "Dr. A", "y"]
    assert ask_person(workspace, NIGHT, CANDIDATE, EXAM, 12).approve


def test_the_deadline_runs_from_the_first_time_that_it_was_asked(workspace: Workspace, terminal: list[str]) -> None:
    asked = json.dumps((datetime.now(UTC) - timedelta(hours=13)).isoformat())
    workspace.store.put(f"approvals/{desk(workspace).question}/asked.json", asked.encode())
    said = ask_person(workspace, NIGHT, CANDIDATE, EXAM, 12)
    assert "nobody answered within 12 h" in said.text()
    assert desk(workspace).said() == said
    assert terminal == [], "nobody was asked"


@pytest.mark.parametrize("name", ["asked", "said"])
def test_a_damaged_record_is_told(workspace: Workspace, terminal: list[str], name: str) -> None:
    del terminal
    workspace.store.put(f"approvals/{desk(workspace).question}/{name}.json", b"\xff{")
    with pytest.raises(DataError, match="record of an approval is damaged"):
        ask_person(workspace, NIGHT, CANDIDATE, EXAM, 12)
