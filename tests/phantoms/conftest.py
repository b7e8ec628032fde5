"""One small hospital for all tests of the embedded world."""

import subprocess
import sys
from typing import NamedTuple

import pytest


class Hospital(NamedTuple):
    folder: object
    truth: object


def _write_hospital(folder, truth, *more):
    return subprocess.run(
        [sys.executable, "-m", "medgr2_phantoms.hospital", "--out", str(folder), "--truth", str(truth), *more],
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.fixture(scope="session")
def write_hospital():
    return _write_hospital


@pytest.fixture(scope="session")
def hospital(tmp_path_factory):
    base = tmp_path_factory.mktemp("hospital")
    done = _write_hospital(
        base / "h", base / "truth.jsonl", "--images", "120", "--heldout", "60", "--seed-qa", "50", "--seed", "5",
        "--corrupt", "3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Hospital(base / "h", base / "truth.jsonl")


@pytest.fixture(scope="session")
def tokenizer():
    pytest.importorskip("torch", reason="the embedded model needs the extra 'models'")
    from medgr2_phantoms.tinyvlm import build_tokenizer

    return build_tokenizer(0)
