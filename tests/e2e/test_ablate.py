"""`medgr2 ablate reward`, as a person types it: a small world, the whole table, and the same again for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e
ASKED = ["ablate", "reward", "--seeds", "1", "--images", "30", "--audits", "40", "--judge-steps", "10"]


def ask(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MEDGR2_")}
    done = subprocess.run(
        [sys.executable, "-m", "medgr2.flows.cli", *ASKED, *more],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_the_table_of_the_reward_is_measured_and_found_again(tmp_path: Path) -> None:
    first: dict[str, Any] = json.loads(ask(tmp_path, "--json").stdout)
    (seed,) = first["seeds"]
    assert (seed["drafts"], seed["audits"]) == (150, 40)
    assert {arm["name"] for arm in first["arms"]} >= {
        "all", "only confidence", "without agree", "only trained", "without trained", "paper: R",
        "paper: 0.8 R + 0.2 match",
    }  # fmt: skip
    assert seed["trial"]["candidate"]
    assert all(arm["items"] == seed["passed"] - 40 for arm in seed["arms"])
    assert all(0 <= arm["auroc"] <= 1 for arm in first["arms"])
    assert 0.2 < seed["valid"] < 1
    again = ask(tmp_path, "--json")
    assert json.loads(again.stdout)["seeds"] == first["seeds"]
    plans = [line for line in again.stderr.splitlines() if " new, " in line]
    assert plans
    assert all(": 0 new, " in line for line in plans)
    told = ask(tmp_path).stdout
    assert f"command: medgr2 {' '.join(ASKED)}" in told
    assert "only confidence" in told
