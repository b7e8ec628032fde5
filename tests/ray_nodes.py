"""A Ray cluster of several nodes on this machine, each a family of processes of its own that a test may kill."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ports import free_port
from processes import alive, children, known

from medgr2.infra.ray_local import PATIENCE, STARTS

DEADLINE_SECONDS = 400
OBJECT_STORE_BYTES = 80 << 20  # the least that Ray takes is 75 MiB
RAY = Path(sys.executable).with_name("ray")


def wait_until(what: str, done: Callable[[], bool], complain: Callable[[], str] = lambda: "") -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < end, f"waited {DEADLINE_SECONDS} s for {what}\n{complain()[-2000:]}"
        time.sleep(0.05)


class RayNodes:
    """A head with one CPU, and more nodes with one each. Closed to others by a token of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        # A socket's path may have 107 characters: pytest's own folders are too deep for Ray's.
        self._folder = Path(tempfile.mkdtemp(prefix="medgr2-nodes-"))
        self.log = self._folder / "nodes.log"
        self.address = f"127.0.0.1:{free_port()}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MEDGR2_", "RAY_"))},
            **PATIENCE,
            **environment,
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            # A node that is gone is found out within seconds.
            "RAY_health_check_initial_delay_ms": "10000",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "6",
        }

    def start(self, more: int) -> None:
        port = self.address.partition(":")[2]
        own = (f"--port={port}", f"--ray-client-server-port={free_port()}", f"--temp-dir={self._folder}")
        self._node("--head", "--include-dashboard=false", *own)
        for _ in range(more):
            self._node(f"--address={self.address}")

    def kill(self, node: int) -> list[int]:
        """SIGKILL of every process of that node; who they were."""
        process = self._processes[node]
        family = [known(process.pid), *children(process.pid)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(120)
        return family

    def pids(self, node: int) -> list[int]:
        return children(self._processes[node].pid)

    def close(self) -> None:
        gone: list[int] = []
        for node in reversed(range(len(self._processes))):
            gone += self.kill(node)
        wait_until("the nodes' end", lambda: not alive(gone))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _node(self, *options: str) -> None:
        # One after the other: two that start at once may take each other's names for a socket. Again where one gave
        # up: Ray gives a node thirty seconds for its start, and a machine that is shared may be away for longer.
        for _ in range(STARTS):
            self._processes.append(self._begin(*options))
            wait_until("a node", lambda: self._gave_up() or self._count() == len(self._processes), self.log.read_text)
            if not self._gave_up():
                return
            self._processes.pop()
            if self._processes:
                wait_until("the head to miss it", lambda: self._count() == len(self._processes), self.log.read_text)
        raise AssertionError(f"{STARTS} starts of a node\n{self.log.read_text()[-2000:]}")

    def _gave_up(self) -> bool:
        return self._processes[-1].poll() is not None

    def _begin(self, *options: str) -> subprocess.Popen[bytes]:
        agent, grpc, metrics, runtime, manager, objects = (free_port() for _ in range(6))
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [
                    *(str(RAY), "start", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1"),
                    *("--num-cpus=1", f"--object-store-memory={OBJECT_STORE_BYTES}", "--include-log-monitor=false"),
                    *(f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"),
                    *(f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={runtime}"),
                    *(f"--node-manager-port={manager}", f"--object-manager-port={objects}"),
                    *("--min-worker-port=0", "--max-worker-port=0", *options),
                ],
                env=self.environment,
                stdout=out,
                stderr=out,
            )

    def _count(self) -> int:
        return count_nodes(self.environment)


def count_nodes(environment: Mapping[str, str]) -> int:
    """Nodes that the head at RAY_ADDRESS knows, as a process of its own sees them: this one joins no cluster."""
    program = (
        "import sys, ray, logging\n"
        "ray.init(address='auto', configure_logging=False, log_to_driver=False, logging_level=logging.ERROR)\n"
        "print('nodes', sum(bool(n['Alive']) for n in ray.nodes()))"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=400)
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("nodes ")]
    return int(found[0]) if found else 0
