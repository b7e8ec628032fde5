"""A real Prefect server for the tests that start the product as a user does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path

import pytest
from ports import free_port

STARTUP_SECONDS, STARTS = 240, 3
BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]


def clean_environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MEDGR2_", "PREFECT_"))}
    quiet = {
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PATH": f"{BIN}:{os.environ['PATH']}",
        # Prefect's client asks again after its 60 s, also to make a run: a machine that stalls would make two.
        "PREFECT_API_REQUEST_TIMEOUT": "600",
    }  # fmt: skip
    return kept | quiet | more


@dataclass(frozen=True)
class PrefectServer:
    api: str
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        return clean_environment(PREFECT_API_URL=self.api, PREFECT_HOME=str(self.home), **more)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process group that a test started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=120)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    home = tmp_path_factory.mktemp("prefect")
    for _ in range(STARTS):
        port = free_port()
        server = PrefectServer(api=f"http://127.0.0.1:{port}/api", home=home)
        with (home / "server.log").open("ab") as out:
            process = subprocess.Popen(
                [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)],
                env=server.environment(), stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        try:
            what = f"the Prefect server, which writes to {home / 'server.log'}"
            wait_for(partial(_healthy_or_gone, server.api, process), STARTUP_SECONDS, what)
            if process.poll() is None:
                yield server
                return
            # Another process was given the port before the server took it.
        finally:
            end(process)
    pytest.fail(f"{STARTS} starts of the Prefect server\n{(home / 'server.log').read_text()[-2000:]}")


def _healthy_or_gone(api: str, process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None or _healthy(api)


def _healthy(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def wait_for(ready: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.2)


def medgr2(environment: Mapping[str, str], cwd: Path, *arguments: str, timeout: float = 600) -> str:
    """What a user's command prints; the test fails with what it said when it ends badly."""
    done = subprocess.run(
        [str(BIN / "medgr2"), *arguments], env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"medgr2 {' '.join(arguments)}\n{done.stderr[-4000:]}"
    return done.stdout
