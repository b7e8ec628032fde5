"""A person is asked by a form of a real Prefect server, once, however often the loop is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from servers import PrefectServer, wait_for

from medgr2.infra.lake import Lake
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import StorageSettings
from medgr2.models.registry import Move, Registry
from medgr2.schemas.vocabulary import Role

DRIVER = Path(__file__).with_name("approval_driver.py")
SECONDS = 400
pytestmark = pytest.mark.timeout(2400)
YES = {"approve": True, "name": "Dr. A", "comment": "read forty of them"}


@dataclass
class Desk:
    server: PrefectServer
    root: Path
    seen: set[str]
    """Runs of other tests."""
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def ask(self, hours: float = 1.0) -> subprocess.Popen[str]:
        env = self.server.environment(
            MEDGR2_STORAGE__ROOT=str(self.root / "root"),
            MEDGR2_EMBEDDED__FOLDER=str(self.root / "embedded"),
            MEDGR2_COMPUTE__MODE="inline",
        )
        with (self.root / "driver.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(DRIVER), str(hours)],
                env=env, cwd=self.root, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        out, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, (self.root / "driver.log").read_text()[-3000:]
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def kill(self, process: subprocess.Popen[str]) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(120)

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server.api + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.loads(answer.read() or b"null")

    def runs(self) -> dict[str, str]:
        """States of this test's runs, by their id."""
        found = self.call("/flow_runs/filter", {"flows": {"name": {"any_": ["after-an-exam"]}}})
        return {run["id"]: run["state_name"] for run in found if run["id"] not in self.seen}

    def paused(self) -> list[str]:
        return [run_id for run_id, state in self.runs().items() if state == "Paused"]

    def form(self) -> str:
        wait_for(lambda: bool(self.paused()) and self._filed(self.paused()[0]), SECONDS, "a form")
        (run_id,) = self.paused()
        return run_id

    def _filed(self, run_id: str) -> bool:
        """The state comes first, its form a moment later."""
        keyset = self.call(f"/flow_runs/{run_id}")["state"]["state_details"]["run_input_keyset"]
        try:
            return bool(self.call(f"/flow_runs/{run_id}/input/{keyset['schema']}"))
        except urllib.error.HTTPError:
            return False

    def shown(self, run_id: str, what: str) -> Any:
        keyset = self.call(f"/flow_runs/{run_id}")["state"]["state_details"]["run_input_keyset"]
        return self.call(f"/flow_runs/{run_id}/input/{keyset[what]}")

    def resume(self, run_id: str, said: dict[str, Any]) -> str:
        return str(self.call(f"/flow_runs/{run_id}/resume", {"run_input": said})["status"])

    @property
    def moves(self) -> list[Move]:
        root = str(self.root / "root")
        return Registry(FolderStore(root), Lake(StorageSettings(root=root))).history(Role.POLICY)


@pytest.fixture
def desk(prefect_server: PrefectServer, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(prefect_server, tmp_path, set())
    desk.seen = set(desk.runs())
    yield desk
    for process in desk.started:
        process.kill()
        process.wait(120)


@pytest.mark.e2e
def test_a_person_fills_in_the_form_and_is_kept_with_the_move(desk: Desk) -> None:
    process = desk.ask()
    run_id = desk.form()
    assert desk.moves == []
    told = desk.shown(run_id, "description")
    for number in ("0.840 [0.800, 0.880]", "+0.060 [+0.030, +0.090]", "24 items won, 6 lost", "spent 0.033 of 0.05"):
        assert number in told
    assert set(desk.shown(run_id, "schema")["properties"]) == {"approve", "name", "comment"}
    assert desk.resume(run_id, YES | {"name": ""}) == "REJECT", "nobody decides without a name"
    assert desk.resume(run_id, YES) == "ACCEPT"
    exam = desk.end(process)
    assert exam["decision"] == "promoted"
    assert [move.reason for move in desk.moves] == ["ds/one: better; approved by Dr. A: read forty of them"]
    assert desk.runs() == {run_id: "Completed"}
    assert desk.end(desk.ask())["decision"] == "promoted", "run again, nobody is asked"
    assert len(desk.moves) == 1


@pytest.mark.e2e
def test_who_refuses_keeps_the_champion(desk: Desk) -> None:
    process = desk.ask()
    desk.resume(desk.form(), {"approve": False, "name": "Dr. B", "comment": "worse on the ward"})
    exam = desk.end(process)
    assert (exam["decision"], exam["reasons"][-1]) == ("champion kept", "not approved by Dr. B: worse on the ward")
    assert desk.end(desk.ask())["decision"] == "champion kept"
    assert desk.moves == []


@pytest.mark.e2e
@pytest.mark.crash
def test_killed_while_it_waits_it_asks_once(desk: Desk) -> None:
    killed = desk.ask()
    first = desk.form()
    desk.kill(killed)
    process = desk.ask()
    wait_for(lambda: desk.runs().get(first) == "Cancelled", SECONDS, "the first form to be taken down")
    second = desk.form()
    assert desk.resume(second, YES) == "ACCEPT"
    assert desk.end(process)["decision"] == "promoted"
    assert len(desk.moves) == 1


@pytest.mark.e2e
@pytest.mark.crash
def test_what_was_said_to_a_form_whose_process_is_gone_counts(desk: Desk) -> None:
    killed = desk.ask()
    first = desk.form()
    desk.kill(killed)
    assert desk.resume(first, YES) == "ACCEPT"
    assert desk.end(desk.ask())["decision"] == "promoted"
    assert len(desk.runs()) == 2
    assert desk.paused() == []
    assert desk.moves[0].reason.endswith("approved by Dr. A: read forty of them")


@pytest.mark.e2e
def test_where_nobody_answers_in_time_the_champion_is_kept(desk: Desk) -> None:
    process = desk.ask(hours=8 / 3600)
    exam = desk.end(process)
    assert exam["decision"] == "champion kept"
    assert "nobody answered within" in exam["reasons"][-1]
    assert "medgr2 promote" in exam["reasons"][-1]
    assert list(desk.runs().values()) == ["Completed"], "the loop goes on"
    assert desk.end(desk.ask(hours=8 / 3600))["decision"] == "champion kept"
    assert desk.moves == []
