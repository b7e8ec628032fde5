"""A node of a cluster is lost in the middle of a stage: the stage ends, and only what was in flight is done again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import alive
from ray_nodes import RayNodes, count_nodes, wait_until

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

pytestmark = pytest.mark.crash
INFRA = Path(__file__).parents[1] / "infra"
CELLS, BATCH, HELD = 90, 5, 47
DEADLINE_SECONDS = 400


@pytest.fixture
def nodes() -> Iterator[RayNodes]:
    made = RayNodes({"PYTHONPATH": str(INFRA), "STAGE_SECONDS": "0.05"})
    try:
        made.start(more=2)
        yield made
    finally:
        made.close()


def test_a_node_is_lost_and_no_cell_is(nodes: RayNodes, tmp_path: Path) -> None:
    night, alone = tmp_path / "night", tmp_path / "alone"
    for folder in (night, alone):
        folder.mkdir()
        (folder / "executions.log").touch()
    hold = night / "hold"
    hold.write_text(str(HELD))

    def executions() -> list[list[str]]:
        lines = (night / "executions.log").read_text().splitlines()
        return [parts for line in lines if len(parts := line.split()) == 3]

    def command(folder: Path, mode: str) -> list[str]:
        return [sys.executable, str(INFRA / "cluster_driver.py"), str(folder / "root"), mode, str(CELLS), str(BATCH)]

    with (tmp_path / "stderr.log").open("wb") as err:
        driver = subprocess.Popen(command(night, "cluster"), env=nodes.environment, stdout=subprocess.PIPE, stderr=err)
    try:
        wait_until(
            "one cell at each node that is begun and held",
            lambda: len({node for _, node, _ in executions()}) == 3 and len(executions()) >= HELD + 3,
            (tmp_path / "stderr.log").read_text,
        )
        on_it = {str(pid) for pid in nodes.pids(1)}
        (lost,) = {node for _, node, pid in executions() if pid in on_it}
        gone = nodes.kill(1)
        wait_until("the end of the node", lambda: not alive(gone), (tmp_path / "stderr.log").read_text)
        # Until the head has missed it and told the driver so, which is when Ray would print.
        wait_until("the head to miss it", lambda: count_nodes(nodes.environment) == 2, nodes.log.read_text)
        assert len(executions()) < CELLS, "the node was lost too late to tell anything"
        hold.unlink()
        out, _ = driver.communicate(timeout=DEADLINE_SECONDS)
    finally:
        driver.kill()
        driver.wait(120)
    assert driver.returncode == 0, (tmp_path / "stderr.log").read_text()[-3000:]
    said = json.loads(out)  # and nothing of Ray's beside it: stdout is where --json belongs

    quiet = {**nodes.environment, "STAGE_SECONDS": "0"}
    undisturbed = subprocess.run(
        command(alone, "inline"), env=quiet, capture_output=True, timeout=DEADLINE_SECONDS, check=True
    )
    assert said == json.loads(undisturbed.stdout)
    assert (said["accepted"], said["rejected"], said["failed"]) == (80, 10, 0)

    done = Counter(key for key, *_ in executions())
    assert len(done) == CELLS
    twice = {key for key, n in done.items() if n > 1}
    assert max(done.values()) <= 2
    assert 1 <= len(twice) <= BATCH, "no more than the batch that was being worked on"
    assert all(lost in {node for k, node, _ in executions() if k == key} for key in twice)
