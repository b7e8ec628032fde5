"""ray-job against a real one-node cluster: the driver is killed, the job goes on, the next driver finds it again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import children

pytestmark = pytest.mark.crash
HERE = Path(__file__).parent
CELLS = 40
DEADLINE_SECONDS = 400


@dataclass
class Cluster:
    address: str
    environment: dict[str, str]
    log: Path


def free_ports(n: int) -> list[str]:
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [str(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_until(what: str, done: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < end, f"waited {DEADLINE_SECONDS} s for {what}:\n{log.read_text()[-2000:]}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    # A socket's path may have 107 characters: pytest's own folders are too deep for Ray's.
    folder = Path(tempfile.mkdtemp(prefix="medgr2-job-"))
    port, dashboard, client, agent, grpc, metrics = free_ports(6)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MEDGR2_", "RAY_"))},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(HERE.parent / "tasks"),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "STAGE_SECONDS": "0.2",
    }
    log = folder / "cluster.log"
    with log.open("wb") as out:
        head = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"),
                *("--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"),
                *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
                *(f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"),
                *(f"--metrics-export-port={metrics}", f"--temp-dir={folder}", "--object-store-memory=134217728"),
            ],
            env=environment,
            stdout=out,
            stderr=out,
        )
    address = f"http://127.0.0.1:{dashboard}"

    def up() -> bool:
        assert head.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{address}/api/jobs/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until("the cluster", up, log)
        yield Cluster(address, environment, log)
    finally:
        # What we started, by its ids, and nothing else: `ray stop` would end every Ray of the host.
        for pid in [head.pid, *children(head.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        head.wait(120)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_killed_driver_finds_its_job_again(cluster: Cluster, tmp_path: Path) -> None:
    root, executions = tmp_path / "root", tmp_path / "executions.log"
    executions.touch()
    environment = {
        **cluster.environment,
        "MEDGR2_STORAGE__ROOT": str(root),
        "MEDGR2_COMPUTE__MODE": "ray-job",
        "MEDGR2_COMPUTE__ADDRESS": cluster.address,
        "MEDGR2_COMPUTE__WORKERS": "2",
        "MEDGR2_PRIVACY__PATIENT_KEY": "a secret that no dashboard may show",
    }
    command = [sys.executable, str(HERE / "stage_driver.py"), str(root), "ray-job", "2", "6", str(CELLS), "0.2"]

    def done() -> Counter[str]:
        return Counter(line.split()[0] for line in executions.read_text().splitlines())

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "stderr.log").open("ab") as err:
            return subprocess.Popen(command, env=environment, stderr=err)

    def jobs() -> list[dict[str, object]]:
        with urllib.request.urlopen(f"{cluster.address}/api/jobs/", timeout=10) as answer:
            return [job for job in json.load(answer) if job["submission_id"]]

    driver = start()
    wait_until("8 executions", lambda: len(done()) >= 8 or driver.poll() is not None, tmp_path / "stderr.log")
    driver.kill()
    driver.wait(120)
    assert len(done()) < CELLS, "the job was done before the driver was killed"
    again = start()
    assert again.wait(DEADLINE_SECONDS) == 0, (tmp_path / "stderr.log").read_text()[-2000:]
    said, plan = json.loads(Path(f"{root}.json").read_text())
    assert len(said) == CELLS
    assert plan["reused"] > 0
    assert set(done().values()) == {1}
    assert len(jobs()) == 1
    assert "no dashboard may show" not in json.dumps(jobs())
    # A third time there is nothing to do, and no job is needed to know that.
    assert start().wait(DEADLINE_SECONDS) == 0
    assert json.loads(Path(f"{root}.json").read_text())[0] == said
    assert len(jobs()) == 1
