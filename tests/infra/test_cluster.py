"""The same stage in this process, in a local Ray and on a cluster of three nodes: wherever it runs, it agrees."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import RayNodes

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

HERE = Path(__file__).parent
CELLS, BATCH = 48, 4
DEADLINE_SECONDS = 400


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    made = RayNodes({"PYTHONPATH": str(HERE), "STAGE_SECONDS": "0.05", "STAGE_NODES": "3"})
    try:
        made.start(more=2)
        yield made
    finally:
        made.close()


def drive(nodes: RayNodes, folder: Path, mode: str, *size: str) -> dict[str, Any]:
    folder.mkdir()
    environment = dict(nodes.environment)
    if mode != "cluster":
        alone = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
        environment = alone | {"STAGE_NODES": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "cluster_driver.py"), str(folder / "root"), mode, str(CELLS), str(BATCH), *size],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def executions(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "executions.log").read_text().splitlines()]


def test_inline_local_and_cluster_agree(nodes: RayNodes, tmp_path: Path) -> None:
    said = {mode: drive(nodes, tmp_path / mode, mode) for mode in ("inline", "ray-local", "cluster")}
    assert said["inline"] == said["ray-local"] == said["cluster"]
    assert (said["cluster"]["accepted"], said["cluster"]["rejected"], said["cluster"]["failed"]) == (42, 6, 0)
    for mode in said:
        assert Counter(key for key, *_ in executions(tmp_path / mode)).most_common(1)[0][1] == 1
    # Each node has one CPU, and each did some of it.
    assert len({node for _, node, _ in executions(tmp_path / "cluster")}) == 3


def test_pictures_travel_by_their_hash(nodes: RayNodes, tmp_path: Path) -> None:
    small = drive(nodes, tmp_path / "small", "cluster", "1000")
    large = drive(nodes, tmp_path / "large", "cluster", "1000000")
    assert small["batch_bytes"] == large["batch_bytes"]
    assert small["batch_bytes"] < 1000 * BATCH
    assert small["digest"] != large["digest"]  # the pictures were really looked at
