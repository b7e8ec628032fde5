"""One small world for all end-to-end tests: its loop is run once a session and looked at by many."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import PrefectServer

DRIVER = Path(__file__).with_name("small_loop.py")
SEED = "5"
DEADLINE_SECONDS = 900


def environment(server: PrefectServer, folder: Path, mode: str) -> dict[str, str]:
    return server.environment(
        MEDGR2_STORAGE__ROOT=str(folder / "root"),
        MEDGR2_EMBEDDED__FOLDER=str(folder / "embedded"),
        MEDGR2_COMPUTE__MODE=mode,
        MEDGR2_PRIVACY__PATIENT_KEY="the same key for both of the two roots",
    )


def start(env: dict[str, str], folder: Path, log: Path, cycles: int = 1) -> subprocess.Popen[bytes]:
    with log.open("wb") as err, (folder / "out.json").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, str(DRIVER), SEED, str(cycles)], env=env, cwd=folder, stdout=out, stderr=err
        )


def finish(env: dict[str, str], folder: Path, cycles: int = 1) -> list[dict[str, Any]]:
    log = folder / "last.log"
    process = start(env, folder, log, cycles)
    try:
        code = process.wait(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
    assert code == 0, log.read_text()[-4000:]
    found: list[dict[str, Any]] = json.loads((folder / "out.json").read_text().splitlines()[-1])
    return found


@pytest.fixture(scope="session")
def undisturbed(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    (report,) = finish(environment(prefect_server, folder, "inline"), folder)
    assert report["night"]["publish"]["added"] > 0
    assert report["candidate"]
    return folder
