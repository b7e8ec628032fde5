"""One storage under three roofs: a folder, moto_server (quick) and a Ceph RADOS gateway (real)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from ports import free_port
from pydantic import SecretStr
from s3.ceph import ACCESS_KEY, SECRET_KEY, Ceph, die_with_the_tests, missing_binaries

from medgr2.infra.settings import S3Settings, StorageSettings

BUCKET = "medgr2-tests"
STARTUP_SECONDS, STARTS = 240, 3


def client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def s3_settings(endpoint: str) -> S3Settings:
    return S3Settings(
        endpoint_url=endpoint, access_key_id=SecretStr(ACCESS_KEY), secret_access_key=SecretStr(SECRET_KEY)
    )


def environment(storage: StorageSettings) -> dict[str, str]:
    """For a child process: load_settings() there gives this storage."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MEDGR2_")}
    env["MEDGR2_STORAGE__ROOT"] = storage.root
    env["MEDGR2_STORAGE__CACHE"] = str(storage.cache_folder)
    if storage.is_s3:
        env["MEDGR2_STORAGE__S3__ENDPOINT_URL"] = storage.s3.endpoint_url
        env["MEDGR2_STORAGE__S3__ACCESS_KEY_ID"] = ACCESS_KEY
        env["MEDGR2_STORAGE__S3__SECRET_ACCESS_KEY"] = SECRET_KEY
    return env


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("moto") / "log"
    for _ in range(STARTS):
        port = free_port()
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                stdout=out,
                stderr=out,
                preexec_fn=die_with_the_tests,
            )
        try:
            if _has_bucket(process, f"http://127.0.0.1:{port}"):
                yield f"http://127.0.0.1:{port}"
                return
            # Another process was given the port before the server took it.
        finally:
            process.kill()
            process.wait(timeout=120)
    pytest.fail(f"{STARTS} starts of moto_server\n{log.read_text()[-2000:]}")


def _has_bucket(process: subprocess.Popen[bytes], endpoint: str) -> bool:
    """When it answers; False where it has ended."""
    deadline = time.monotonic() + STARTUP_SECONDS
    while process.poll() is None:
        try:
            client(endpoint).create_bucket(Bucket=BUCKET)
            return True
        except Exception as e:
            if time.monotonic() > deadline:
                pytest.fail(f"moto_server did not start: {e}")
            time.sleep(0.2)
    return False


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    missing = missing_binaries()
    if missing:
        pytest.skip(f"no Ceph here ({', '.join(missing)}); apt-get install radosgw ceph-mon ceph-osd ceph-common")
    running = Ceph(tmp_path_factory.mktemp("ceph") / "node").start()
    try:
        client(running.endpoint).create_bucket(Bucket=BUCKET)
        yield running.endpoint
    finally:
        running.stop()


@pytest.fixture
def folder_storage(tmp_path: Path) -> StorageSettings:
    return StorageSettings(root=str(tmp_path / "root"))


def _s3(endpoint: str, tmp_path: Path) -> StorageSettings:
    return StorageSettings(root=f"s3://{BUCKET}/{uuid.uuid4().hex}", cache=tmp_path / "cache", s3=s3_settings(endpoint))


@pytest.fixture(
    params=["folder", pytest.param("moto", marks=pytest.mark.s3), pytest.param("ceph", marks=pytest.mark.s3)]
)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageSettings:
    if request.param == "folder":
        return StorageSettings(root=str(tmp_path / "root"))
    return _s3(request.getfixturevalue(request.param), tmp_path)


@pytest.fixture(params=[pytest.param("moto", marks=pytest.mark.s3), pytest.param("ceph", marks=pytest.mark.s3)])
def s3_storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageSettings:
    return _s3(request.getfixturevalue(request.param), tmp_path)
