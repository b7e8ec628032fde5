"""The truth about the phantoms stays sealed while models are trained, scored, selected and examined."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from servers import PrefectServer
from small_world import environment


@pytest.mark.e2e
def test_training_never_opens_the_truth(prefect_server: PrefectServer, undisturbed: Path) -> None:
    env = environment(prefect_server, undisturbed, "inline")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("watched_training.py"))],
        env=env, cwd=undisturbed, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert all(seen["trained"])
    pictures = [name for name in seen["opened"] if "/images/sha256/" in name]
    assert pictures, "the watch is blind"
    assert [name for name in seen["opened"] if "truth" in name or "sealed" in name] == []
    assert [name for name in seen["modules"] if name.startswith("medgr2_phantoms")] == []
    truth = [path for path in (undisturbed / "embedded").rglob("*") if path.name == "truth.jsonl"]
    assert len(truth) == 1
    assert not truth[0].is_relative_to(undisturbed / "root")
