"""`medgr2 ablate`, as a person types it: small worlds, the whole tables, and the same again for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]
REWARD = ["ablate", "reward", "--seeds", "1", "--images", "30", "--audits", "40", "--judge-steps", "10"]
LOOP = [
    "ablate", "loop", "--seeds", "1", "--images", "40,20", "--heldout", "100", "--audits", "60", "--grpo-steps", "1",
    "--judge-steps", "2", "--set", "sft_steps=5", "--set", "generator_steps=2", "--set", "judge_members=1",
]  # fmt: skip


def ask(folder: Path, asked: list[str], *more: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MEDGR2_")} | settings
    done = subprocess.run(
        [sys.executable, "-m", "medgr2.flows.cli", *asked, *more],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_the_table_of_the_reward_is_measured_and_found_again(tmp_path: Path) -> None:
    inline = {"MEDGR2_COMPUTE__MODE": "inline"}  # of small stages, most is the start of their workers
    first: dict[str, Any] = json.loads(ask(tmp_path, REWARD, "--json", **inline).stdout)
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
    again = ask(tmp_path, REWARD, "--json", **inline)
    assert json.loads(again.stdout)["seeds"] == first["seeds"]
    plans = [line for line in again.stderr.splitlines() if " new, " in line]
    assert plans
    assert all(": 0 new, " in line for line in plans)
    told = ask(tmp_path, REWARD, **inline).stdout
    assert f"command: medgr2 {' '.join(REWARD)}" in told
    assert "only confidence" in told


def test_the_arms_of_the_loop_are_compared_on_one_exam_and_found_again(tmp_path: Path) -> None:
    first = ask(tmp_path, LOOP, "--json", "--plot", str(tmp_path / "arms.svg"))
    table: dict[str, Any] = json.loads(first.stdout)
    arms = {arm["name"]: arm for arm in table["arms"]}
    assert list(arms) == [
        "start", "base, which writes and judges", "SFT(seed)", "SFT(seed), as many steps",
        "+ unfiltered", "+ random, as many", "+ oracle filter",
        "+ filtered", "+ filtered, as much compute", "+ filtered, GRPO", "cycle 2",
    ]  # fmt: skip
    assert all(arm["n"] == 100 and len(arm["greedy_by_seed"]) == 1 for arm in arms.values())
    assert arms["+ oracle filter"]["valid"] == 1.0
    assert arms["+ random, as many"]["items"] == arms["+ filtered"]["items"] < arms["+ unfiltered"]["items"]
    assert arms["+ filtered"]["valid"] > arms["+ unfiltered"]["valid"]
    assert arms["cycle 2"]["items"] >= arms["+ filtered"]["items"]
    assert {arm for arm, row in arms.items() if row["blank"] is not None} == {"+ filtered"}
    sampled = {"+ unfiltered", "+ filtered", "+ filtered, as much compute", "+ filtered, GRPO"}
    assert {arm for arm, row in arms.items() if row["avg"] is not None} == sampled
    assert (table["images"], table["audits"], table["heldout"], table["tau"]) == ([40, 20], 60, 100, 0.7)
    assert table["tries"] == [1]
    assert all(c["won"] + c["lost"] <= c["n"] == 100 for c in table["contrasts"])
    assert [claim["asked"].split()[0] for claim in table["claims"]] == ["filtered"] * 6 + ["GRPO"] * 2
    assert "<svg" in (tmp_path / "arms.svg").read_text()
    assert table["cpu_seconds"] > 0
    again = ask(tmp_path, LOOP, "--json")
    assert json.loads(again.stdout)["arms"] == table["arms"]
    assert json.loads(again.stdout)["cpu_seconds"] == table["cpu_seconds"]
    # The table is there; without it, it is made again from what was done, and nothing is bought twice.
    for record in (tmp_path / ".medgr2" / "ablations").rglob("ablations/tables/*.json"):
        record.unlink()
    made = ask(tmp_path, LOOP, "--json")
    same = [{k: v for k, v in arm.items() if k != "cpu_seconds"} for arm in table["arms"]]
    found = [{k: v for k, v in arm.items() if k != "cpu_seconds"} for arm in json.loads(made.stdout)["arms"]]
    assert found == same
    plans = [line for line in made.stderr.splitlines() if " new, " in line]
    assert plans
    assert all(": 0 new, " in line for line in plans)
