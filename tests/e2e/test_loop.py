"""The whole loop, real Prefect, Ray, Delta and TRL: killed again and again it ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from servers import PrefectServer, medgr2, wait_for
from small_world import DEADLINE_SECONDS, environment, finish, start
from storage_fixtures import BUCKET, s3_settings
from storage_fixtures import environment as storage_environment

from medgr2.flows.cli import run
from medgr2.infra.lake import Lake
from medgr2.infra.settings import StorageSettings

KILLED_DURING = ("ingest", "generate", "score-answers", "train-reward", "train", "evaluate")
CHANGING = {
    "added_at", "scored_at", "published_at", "registered_at", "evaluated_at", "used_at", "reviewed_at",
}  # fmt: skip
TABLES = ("images", "items", "scores", "membership", "versions", "reviews", "models", "uses", "evals")


def content(where: Path | StorageSettings) -> dict[str, list[str]]:
    lake = Lake(where if isinstance(where, StorageSettings) else StorageSettings(root=str(where / "root")))
    return {
        table: sorted(
            json.dumps({k: v for k, v in row.items() if k not in CHANGING}, default=str, sort_keys=True)
            for row in lake.read(table).to_pylist()
        )
        for table in TABLES
    }


def executions(folder: Path) -> list[tuple[str, str]]:
    """What was finished, each as often as it was: a broken file may be tried again, a finished cell may not."""
    rows = Lake(StorageSettings(root=str(folder / "root"))).read("outcomes").to_pylist()
    return sorted((row["stage"], row["key"]) for row in rows if row["outcome"] != "failed")


def broken(folder: Path) -> set[tuple[str, str]]:
    rows = Lake(StorageSettings(root=str(folder / "root"))).read("outcomes").to_pylist()
    return {(row["stage"], row["key"]) for row in rows if row["outcome"] == "failed"}


@pytest.mark.crash
@pytest.mark.e2e
@pytest.mark.timeout(3600)
def test_a_loop_killed_in_every_stage_ends_as_one_that_was_not(
    prefect_server: PrefectServer, undisturbed: Path, tmp_path: Path
) -> None:
    env = environment(prefect_server, tmp_path, "ray-local")
    for stage in KILLED_DURING:
        log = tmp_path / f"{stage}.log"
        process = start(env, tmp_path, log)
        try:
            wait_for(
                lambda log=log, stage=stage, process=process: (  # type: ignore[misc]
                    f"{stage}: " in log.read_text() or process.poll() is not None
                ),
                DEADLINE_SECONDS,
                f"stage {stage} to begin",
            )
            time.sleep(1.0)
            os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
            process.wait(timeout=120)
        assert f"{stage}: " in log.read_text(), log.read_text()[-3000:]
    finish(env, tmp_path)
    expected = content(undisturbed)
    found = content(tmp_path)
    for table in TABLES:
        assert found[table] == expected[table], table
    assert executions(tmp_path) == executions(undisturbed), "a finished cell was done again, or one is missing"
    assert broken(tmp_path) == broken(undisturbed) != set()


@pytest.mark.e2e
@pytest.mark.s3
@pytest.mark.timeout(2400)
def test_the_loop_in_a_real_s3_store_is_the_same_loop(
    prefect_server: PrefectServer, undisturbed: Path, ceph: str, tmp_path: Path
) -> None:
    storage = StorageSettings(root=f"s3://{BUCKET}/loop", cache=tmp_path / "cache", s3=s3_settings(ceph))
    env = environment(prefect_server, tmp_path, "ray-local") | {
        name: value for name, value in storage_environment(storage).items() if name.startswith("MEDGR2_STORAGE__")
    }
    finish(env, tmp_path)
    assert content(storage) == content(undisturbed)


@pytest.mark.e2e
def test_the_same_loop_again_buys_nothing(prefect_server: PrefectServer, undisturbed: Path) -> None:
    before = content(undisturbed)
    env = environment(prefect_server, undisturbed, "inline")
    first = finish(env, undisturbed)
    assert content(undisturbed) == before
    assert " new, " not in (undisturbed / "last.log").read_text(), "a finished cycle is read"
    for record in (undisturbed / "root" / "cycles").rglob("*.json"):
        record.unlink()
    again = finish(env, undisturbed)
    assert [r["exam"] for r in again] == [r["exam"] for r in first]
    plans = [line for line in (undisturbed / "last.log").read_text().splitlines() if " new, " in line]
    assert len(plans) >= 8
    assert [line for line in plans if ": 0 new, " not in line] == []
    assert content(undisturbed) == before


@pytest.mark.e2e
@pytest.mark.timeout(2400)
def test_a_second_cycle_leaves_the_first_as_it_was(
    prefect_server: PrefectServer, undisturbed: Path, tmp_path: Path
) -> None:
    for name in ("root", "embedded"):
        shutil.copytree(undisturbed / name, tmp_path / name)
    env = environment(prefect_server, tmp_path, "inline")
    first, second = finish(env, tmp_path, cycles=2)
    (record,) = (undisturbed / "root" / "cycles").rglob("*.json")
    assert first == json.loads(record.read_text())
    assert second["night"]["generate"]["plan"]["new"] > 0, "the second cycle writes with another generator"
    once = content(tmp_path)
    assert finish(env, tmp_path, cycles=2) == [first, second]
    assert content(tmp_path) == once


@pytest.mark.e2e
def test_an_item_is_explained_from_its_image_to_its_model(prefect_server: PrefectServer, undisturbed: Path) -> None:
    env = environment(prefect_server, undisturbed, "inline")
    (row,) = json.loads(
        medgr2(env, undisturbed, "query", "--json", "select min(item_id) id from members where dataset = 'loop'")
    )
    story = json.loads(medgr2(env, undisturbed, "explain", row["id"], "--json"))
    image = undisturbed / "root" / "images" / "sha256" / story["image"]["image_id"][:2] / story["image"]["image_id"]
    assert image.is_file()
    assert story["generation"]["outcome"] == "accepted"
    assert [s["verdict"] for s in story["scores"]] == ["accepted"]
    digest_of = {v["version"]: v["digest"] for v in story["versions"]}
    assert {"policy", "generator"} <= {m["role"] for m in story["models"]}
    registered = json.loads(medgr2(env, undisturbed, "models", "--json"))
    parents = {m["model_id"]: m["parent"] for m in registered}
    grpo = next(m for m in registered if m["method"] == "grpo")
    given = [m["model_id"] for m in registered if m["role"] == "base"]
    assert parents[parents[grpo["model_id"]]] in given, "grpo <- sft <- what policies start from"
    assert 0 <= grpo["heldout"] <= 1
    assert grpo["dataset_digest"] == digest_of["loop@1"]


@pytest.mark.e2e
def test_documented_reading_commands_run(
    prefect_server: PrefectServer,
    undisturbed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from test_docs import reading_commands  # type: ignore[import-not-found]

    for name in [name for name in os.environ if name.startswith(("MEDGR2_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    for name, value in environment(prefect_server, undisturbed, "inline").items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(undisturbed)
    commands = {tuple(words[1:]) for words in reading_commands()}
    assert len(commands) > 10
    for arguments in sorted(commands):
        assert run(list(arguments)) == 0, f"{arguments}\n{capsys.readouterr().err}"
