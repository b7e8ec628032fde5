"""SIGKILL of a stage whose work is bought from a server: counted by the server, no more is bought again than was
under way, nothing is lost, nothing is there twice, and a budget is spent once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore

pytestmark = pytest.mark.crash
HERE = Path(__file__).parent
CELLS = 240
IN_FLIGHT, SERVER = 16, 12
"""Cells without a durable outcome, and requests at the server, as the driver has them."""
LATE = 8
"""So many more are sold at most before a kill that comes late."""
DEADLINE_SECONDS = 400


class Served:
    """A fake server with its book of sales, and drivers that are started on one root and killed."""

    def __init__(self, folder: Path, *faults: str) -> None:
        self.root, self._book = folder / "root", folder / "sold.log"
        self._complaints = folder / "stderr.log"
        self._book.touch()
        command = [sys.executable, str(HERE.parent / "served" / "fake_server.py"), "--port", "0", "--latency-ms", "40"]
        with self._complaints.open("ab") as err:
            self.server = subprocess.Popen(
                [*command, "--log", str(self._book), *faults],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                env=environment(),
            )
        assert self.server.stdout is not None
        self.url = f"http://127.0.0.1:{json.loads(self.server.stdout.readline())['port']}/v1"

    def close(self) -> None:
        self.server.terminate()
        self.server.communicate(timeout=400)

    def start(self, *more: str) -> Forked:
        command = [str(HERE / "served_driver.py"), str(self.root), self.url, str(CELLS), *more]
        return Forked(command, environment(), self.root.with_suffix(".out"), self._complaints)

    def run(self, *more: str) -> list[Any]:
        assert self.start(*more).wait(DEADLINE_SECONDS) == 0, self._complaints.read_text()[-2000:]
        told: list[Any] = json.loads(Path(f"{self.root}.json").read_text())
        return told

    def kill_at(self, sold: int, *more: str, end: signal.Signals = signal.SIGKILL) -> None:
        self._ask("POST", f"_hold/{sold + LATE}")
        driver = self.start(*more)
        wait_until(f"{sold} sales", lambda: len(self.sold()) >= sold or driver.poll() is not None)
        assert driver.poll() is None, self._complaints.read_text()[-2000:]
        driver.send_signal(end)
        assert driver.wait(DEADLINE_SECONDS) != 0
        self._ask("POST", "_hold")
        # What the server was about to sell is sold, if it looks after nobody.
        wait_until("the last reply", lambda: json.loads(self._ask("GET", "_stats"))["in_flight"] == 0)

    def _ask(self, method: str, page: str) -> bytes:
        asked = urllib.request.Request(self.url.removesuffix("v1") + page, method=method)
        with urllib.request.urlopen(asked, timeout=300) as reply:
            return bytes(reply.read())

    def sold(self) -> list[str]:
        return [line.split()[0] for line in self._book.read_text().splitlines() if line]

    def bought_again(self) -> int:
        return sum(Counter(self.sold()).values()) - len(set(self.sold()))

    def held(self) -> dict[str, set[str]]:
        """What every segment says of each cell. A merge that was cut off leaves its parts beside what it made of them,
        until the next one: what they say has to be the same, or a cell was bought twice."""
        store = FolderStore(self.root)
        from medgr2.infra.journal_segment import decode

        found: dict[str, set[str]] = defaultdict(set)
        for info in store.list("journal/"):
            for row in decode(info.key.rpartition("/")[2], store.get(info.key)).to_pylist():
                found[row["key"].hex()].add(repr(row))
        return found


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEDGR2_")}
    return {**kept, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}


def wait_until(what: str, done: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < end, f"waited {DEADLINE_SECONDS} s for {what}"
        time.sleep(0.002)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    pytest.importorskip("aiohttp", reason="the extra 'http' is not installed")
    served = Served(tmp_path)
    yield served
    served.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("aiohttp", reason="the extra 'http' is not installed")
    served = Served(tmp_path_factory.mktemp("undisturbed"))
    try:
        digest, asked, _, _ = served.run()
        assert (asked, len(served.sold()), served.bought_again()) == (CELLS, CELLS, 0)
        return str(digest)
    finally:
        served.close()


@pytest.mark.parametrize("percent", [30, 50, 90])
def test_a_kill_buys_no_more_again_than_was_under_way(served: Served, undisturbed: str, percent: int) -> None:
    served.kill_at(CELLS * percent // 100)
    before, kept = len(served.sold()), len(Journal(FolderStore(served.root), "rows").outcomes())
    assert before - kept <= IN_FLIGHT
    digest, asked, plan, _ = served.run()
    assert (plan["reused"], plan["new"]) == (kept, CELLS - kept)
    assert served.bought_again() == before - kept <= IN_FLIGHT
    assert (asked, digest) == (CELLS, undisturbed)
    assert len(served.held()) == CELLS
    assert {len(said) for said in served.held().values()} == {1}


def test_sigterm_costs_what_was_at_the_server_and_nothing_that_had_come_back(served: Served, undisturbed: str) -> None:
    served.kill_at(CELLS // 2, end=signal.SIGTERM)
    assert len(served.sold()) < CELLS
    assert served.run()[0] == undisturbed
    assert served.bought_again() <= SERVER


def test_killed_again_and_again_each_kill_costs_no_more_than_was_under_way(served: Served, undisturbed: str) -> None:
    for kills, sold in enumerate((20, 60, 120, 180, 230), start=1):
        served.kill_at(sold + served.bought_again())
        assert served.bought_again() <= IN_FLIGHT * kills
    assert served.run()[0] == undisturbed
    assert len(served.sold()) == CELLS + served.bought_again()
    # Nothing is left to do, and nothing is asked.
    before = len(served.sold())
    assert served.run()[2]["new"] == 0
    assert len(served.sold()) == before


def test_a_budget_is_spent_once_however_often_the_night_is_killed(served: Served) -> None:
    calls, since = 150, time.time_ns()
    night = (f"calls={calls}", f"since={since}")
    served.kill_at(50, *night)
    lost = len(served.sold()) - len(Journal(FolderStore(served.root), "rows").outcomes())
    assert lost <= IN_FLIGHT
    _, asked, _, line = served.run(*night)
    assert asked == calls
    assert f"{CELLS - calls} left: the budget is spent (150 of 150 calls)" in line
    assert len(served.sold()) == calls + lost
    assert len(served.held()) == calls
    assert served.run(*night)[1] == calls
    assert len(served.sold()) == calls + lost
