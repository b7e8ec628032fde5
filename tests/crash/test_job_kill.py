"""ray-job against a real one-node cluster: the driver is killed, the job goes on, the next driver finds it again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import pytest
from ports import free_port
from processes import children
from ray_nodes import count_nodes

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.ray_local import PATIENCE, STARTS

pytestmark = pytest.mark.crash
HERE = Path(__file__).parent
CELLS = 40
DEADLINE_SECONDS = 400


@dataclass
class Cluster:
    address: str
    node: str
    environment: dict[str, str]
    log: Path


def wait_until(what: str, done: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < end, f"waited {DEADLINE_SECONDS} s for {what}:\n{log.read_text()[-2000:]}"
        time.sleep(0.05)


def begun(folder: Path) -> tuple[subprocess.Popen[bytes], Cluster]:
    port, dashboard, client, agent, grpc, metrics = (free_port() for _ in range(6))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MEDGR2_", "RAY_"))},
        **PATIENCE,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(HERE.parent / "tasks"),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "STAGE_SECONDS": "0.2",
    }
    log = folder / "cluster.log"
    with log.open("ab") as out:
        head = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"),
                *("--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"),
                *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
                *(f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"),
                *(f"--metrics-export-port={metrics}", f"--temp-dir={folder}", "--object-store-memory=134217728"),
                *("--min-worker-port=0", "--max-worker-port=0"),
            ],
            env=environment,
            stdout=out,
            stderr=out,
        )
    return head, Cluster(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", environment, log)


def stands(head: subprocess.Popen[bytes], cluster: Cluster) -> bool:
    """When it answers; False where it has ended."""

    def up() -> bool:
        try:
            with urllib.request.urlopen(f"{cluster.address}/api/jobs/", timeout=60) as answer:
                # The dashboard answers before there is a node.
                return answer.status == 200 and count_nodes(cluster.environment | {"RAY_ADDRESS": cluster.node}) == 1
        except (OSError, HTTPException):
            return False

    wait_until("the cluster", lambda: head.poll() is not None or up(), cluster.log)
    return head.poll() is None


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    # A socket's path may have 107 characters: pytest's own folders are too deep for Ray's.
    folder = Path(tempfile.mkdtemp(prefix="medgr2-job-"))
    try:
        for _ in range(STARTS):
            head, found = begun(folder)
            try:
                if stands(head, found):
                    yield found
                    return
            finally:
                # What we started, by its ids, and nothing else: `ray stop` would end every Ray of the host.
                for pid in [head.pid, *children(head.pid)]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                head.wait(120)
        pytest.fail(f"{STARTS} starts of a cluster\n{(folder / 'cluster.log').read_text()[-2000:]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_killed_driver_finds_its_job_again(cluster: Cluster, tmp_path: Path) -> None:
    root, executions = tmp_path / "root", tmp_path / "executions.log"
    executions.touch()
    hold = tmp_path / "hold"
    hold.write_text("16")  # so many cells are done before the driver is killed, however late that is
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
        with urllib.request.urlopen(f"{cluster.address}/api/jobs/", timeout=300) as answer:
            return [job for job in json.load(answer) if job["submission_id"]]

    def under_way() -> bool:
        return len(done()) >= 8 and len(Journal(FolderStore(root), "squares").index()) > 0

    driver = start()
    wait_until(
        "8 executions, and one that is durable",
        lambda: under_way() or driver.poll() is not None,
        tmp_path / "stderr.log",
    )
    driver.kill()
    driver.wait(120)
    assert len(done()) < CELLS, "the job was done before the driver was killed"
    hold.unlink()
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
