"""Asking a person without a server: at the terminal, or not at all. The form of a server is asked in tests/e2e."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medgr2.flows.approval import ask_person
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.approvals import ApprovalDesk
from medgr2.schemas.approvals import Approval
from medgr2.schemas.cycle_reports import Accuracy, Exam, Gain, SliceFall
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
    slices=(
        SliceFall(name="CT", n=60, fall=-0.1, most=-0.02, p_value=1.0),
        SliceFall(name="MRI", n=37, fall=0.027, most=0.126, p_value=0.5),
        SliceFall(name="OCT", n=9, fall=0.0, most=None, p_value=None),
    ),
)  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return open_workspace()


def desk(workspace: Workspace) -> ApprovalDesk:
    return ApprovalDesk(workspace.store, candidate=CANDIDATE, champion=None, heldout="heldout@1")


class Terminal:
    """A real one: what is typed lies in it line by line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._typing, reading = os.openpty()
        self._monkeypatch, self._stdin = monkeypatch, os.fdopen(reading)

    def types(self, *lines: str) -> None:
        self._monkeypatch.setattr(sys, "stdin", self._stdin)
        os.write(self._typing, "".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        self._stdin.close()
        os.close(self._typing)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    found = Terminal(monkeypatch)
    yield found
    found.close()


def ask(workspace: Workspace, hours: float = 12) -> Approval:
    said = ask_person(workspace, NIGHT, CANDIDATE, EXAM, hours)
    assert said is not None
    return said


def test_at_the_terminal_the_question_is_put_once(
    workspace: Workspace, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.types("y", "", "Dr. A", "read twenty")
    said = ask(workspace)
    assert (said.approve, said.text()) == (True, "approved by Dr. A: read twenty")
    shown = capsys.readouterr().out
    for number in ("0.840 [0.800, 0.880]", "+0.060 [+0.030, +0.090]", "24 items won, 6 lost, p = 0.0014", "0.250"):
        assert number in shown
    assert "nearest to a fall: MRI: fall +0.027, at most +0.126, over 37 items" in shown
    assert "too few to tell, over 9 items" in shown
    assert ask(workspace) == said, "nobody is asked a second time"


def test_no_is_what_a_mere_return_says(workspace: Workspace, terminal: Terminal) -> None:
    terminal.types("", "Dr. B", "")
    assert ask(workspace).text() == "not approved by Dr. B"


@pytest.mark.parametrize("typed", [(), ("y",), ("y", "Dr. A")])
def test_a_terminal_where_nobody_sits_is_waited_for_no_longer_than_was_said(
    workspace: Workspace, terminal: Terminal, typed: tuple[str, ...]
) -> None:
    terminal.types(*typed)
    said = ask(workspace, hours=0.5 / 3600)
    assert not said.approve
    assert said.text().startswith("nobody answered within")
    assert said.text().endswith(f"medgr2 promote {CANDIDATE[:12]} takes it still")
    assert desk(workspace).said() == said, "the loop goes on, and does not wait again"


def test_where_nobody_can_be_asked_the_question_stays_open_and_its_time_does_not_run(
    workspace: Workspace, terminal: Terminal
) -> None:
    assert ask_person(workspace, NIGHT, CANDIDATE, EXAM, 12) is None
    assert list(workspace.store.list("approvals/")) == []
    terminal.types("y", "Dr. A", "")
    assert ask(workspace).approve


def test_the_deadline_runs_from_the_first_time_that_it_was_asked(workspace: Workspace, terminal: Terminal) -> None:
    asked = json.dumps((datetime.now(UTC) - timedelta(hours=13)).isoformat())
    workspace.store.put(f"approvals/{desk(workspace).question}/asked.json", asked.encode())
    terminal.types("y", "Dr. A", "")
    said = ask(workspace)
    assert "nobody answered within 12 h" in said.text()
    assert desk(workspace).said() == said


@pytest.mark.parametrize("name", ["asked", "said"])
def test_a_damaged_record_is_told(workspace: Workspace, terminal: Terminal, name: str) -> None:
    terminal.types()
    workspace.store.put(f"approvals/{desk(workspace).question}/{name}.json", b"\xff{")
    with pytest.raises(DataError, match="record of an approval is damaged"):
        ask_person(workspace, NIGHT, CANDIDATE, EXAM, 12)
