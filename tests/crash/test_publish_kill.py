"""A publish is killed by SIGKILL at every one of its writes, and at moments nobody chose."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from forked import Forked
from racers import __file__ as racers
from storage_fixtures import environment

from medgr2.infra.lake import Lake
from medgr2.infra.opening import open_store
from medgr2.infra.query import query
from medgr2.infra.settings import StorageSettings
from medgr2.infra.versions import members, publish, versions

pytestmark = pytest.mark.crash
OLD, NEW = ["a", "b"], ["b", "c", "d"]
WRITES = 6
"""stage: part, receipt; rows of membership; row of versions; unstage: part, receipt."""


def prepared(storage: StorageSettings) -> Lake:
    lake = Lake(storage)
    lake.append("items", [{"item_id": i, "image_id": f"image-{i}"} for i in "abcdef"], once="items")
    publish(lake, dataset="ds", add=OLD, card={"n": 1}, run="night-1")
    return lake


def child(storage: StorageSettings, folder: Path, op: int, when: str) -> Forked:
    return Forked([racers, "killed", str(op), when], environment(storage), folder / "out", folder / "err")


def check_old_or_new(storage: StorageSettings) -> bool:
    """What every reader sees; whether it is the new version already."""
    lake = Lake(storage)
    history = versions(lake)
    assert [members(lake, v) for v in history] in ([OLD], [OLD, NEW])
    found = query(storage, "SELECT version, list(item_id ORDER BY item_id) AS ids FROM members GROUP BY 1 ORDER BY 1")
    assert found["ids"].to_pylist() in ([OLD], [OLD, NEW])
    assert found.num_rows == len(history)
    return len(history) == 2


def check_completed(storage: StorageSettings) -> None:
    """The same call again gives version 2, and nothing is there twice."""
    lake = Lake(storage)
    again = publish(lake, dataset="ds", add=["c", "d"], remove=["a"], card={"n": 2}, run="night-2")
    assert again.version == 2
    assert again == publish(Lake(storage), dataset="ds", add=["d", "c"], remove=["a"], card={"n": 2}, run="night-2")
    assert check_old_or_new(storage)
    assert [v.version for v in versions(lake)] == [1, 2]
    rows = [tuple(row.values()) for row in lake.read("membership").to_pylist()]
    assert len(rows) == len(set(rows)) == len(OLD) + 3
    assert list(open_store(storage).list("staging/")) == []


def kill_at(storage: StorageSettings, folder: Path, op: int, when: str) -> None:
    prepared(storage)
    process = child(storage, folder, op, when)
    _, err = process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL, err
    # The commit to `versions` is the fourth write, and the one that readers see.
    assert check_old_or_new(storage) == (op > 4 or (op, when) == (4, "after"))
    check_completed(storage)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("op", range(1, WRITES + 1))
def test_killed_at_every_write_on_a_folder(folder_storage: StorageSettings, tmp_path: Path, op: int, when: str) -> None:
    kill_at(folder_storage, tmp_path, op, when)


@pytest.mark.parametrize(("op", "when"), [(2, "after"), (3, "after"), (4, "before"), (4, "after"), (5, "before")])
def test_killed_at_some_writes_on_s3(s3_storage: StorageSettings, tmp_path: Path, op: int, when: str) -> None:
    kill_at(s3_storage, tmp_path, op, when)


def test_a_publish_makes_exactly_the_writes_that_are_killed_here(
    folder_storage: StorageSettings, tmp_path: Path
) -> None:
    prepared(folder_storage)
    out, err = child(folder_storage, tmp_path, 0, "never").communicate(timeout=400)
    assert out.strip() == f"ds@2 after {WRITES} writes", err


def test_killed_while_the_very_first_tables_are_made(folder_storage: StorageSettings, tmp_path: Path) -> None:
    Lake(folder_storage).append("items", [{"item_id": i, "image_id": i} for i in "abcd"], once="items")
    for op in range(3, 7):  # making membership, its rows, making versions, its row
        child(folder_storage, tmp_path, op, "after").communicate(timeout=400)
        seen = [members(Lake(folder_storage), v) for v in versions(Lake(folder_storage))]
        assert seen in ([], [["c", "d"]])
    lake = Lake(folder_storage)
    publish(lake, dataset="ds", add=["c", "d"], remove=["a"], card={"n": 2}, run="night-2")
    assert [members(lake, v) for v in versions(lake)] == [["c", "d"]]
    assert lake.read("membership").num_rows == 3


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_a_moment_nobody_chose(folder_storage: StorageSettings, tmp_path: Path, seed: int) -> None:
    """Inside a write as well: watched from the start of staging, killed up to 60 ms later."""
    prepared(folder_storage)
    process = child(folder_storage, tmp_path, 0, "never")
    staging, deadline = Path(folder_storage.root, "staging", "publish"), time.monotonic() + 400
    while process.poll() is None and not any(staging.glob("*")) and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(random.Random(seed).random() * 0.06)
    process.kill()
    process.communicate(timeout=400)
    check_old_or_new(folder_storage)
    check_completed(folder_storage)
