"""SIGKILL in the middle of an exam, then the same command: the same rows, and what was answered is not asked again."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from medgr2.infra.lake import Lake
from medgr2.infra.settings import StorageSettings

pytestmark = pytest.mark.crash
HERE = Path(__file__).parent
CELLS = 36
TOLD = ("eval_id", "condition", "answer", "sampled", "confidence", "reply", "correct", "parsed", "failed", "cell")


def examined(root: Path, *more: str) -> tuple[int, int, int]:
    """Exit status, and what the plan called new and reused."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MEDGR2_")}
    command = [str(HERE / "evaluate_driver.py"), str(root), *more]
    driver = Forked(command, env | {"OMP_NUM_THREADS": "1"}, root.with_suffix(".out"), root.with_suffix(".err"))
    _, said = driver.communicate(timeout=400)
    plan = re.search(r"evaluate: (\d+) new, (\d+) reused", said)
    assert plan is not None, said
    return driver.wait(1), int(plan[1]), int(plan[2])


def rows(root: Path) -> list[tuple[Any, ...]]:
    held = Lake(StorageSettings(root=str(root))).read("evals").to_pylist()
    return sorted(tuple(str(row[name]) for name in TOLD) for row in held)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    root = tmp_path_factory.mktemp("whole") / "root"
    assert examined(root) == (0, CELLS, 0)
    held = rows(root)
    assert len(held) == CELLS
    return held


@pytest.mark.parametrize("kill", ["after:1", "after:2", "evals-before"])
def test_killed_and_begun_again(tmp_path: Path, undisturbed: list[tuple[Any, ...]], kill: str) -> None:
    root = tmp_path / "root"
    code, new, _ = examined(root, f"kill={kill}")
    assert (code, new) == (-signal.SIGKILL, CELLS)
    code, new, reused = examined(root)
    assert (code, new + reused) == (0, CELLS)
    if kill == "evals-before":
        assert new == 0, "every answer was durable before the rows were written"
    else:
        assert 0 < reused < CELLS
    assert rows(root) == undisturbed
