"""Benchmarks are run by hand, on quiet machines: here only that each can be asked what it does, and finds its parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = sorted(
    path.relative_to(BENCHMARKS).with_suffix("").as_posix().replace("/", ".")
    for folder in (".", "realkit")
    for path in (BENCHMARKS / folder).glob("*.py")
)


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_finds_its_parts(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append('realkit'); import {module}"],
        cwd=BENCHMARKS, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
