"""prefect.yaml on a real server: the schedule, the forms, a worker that runs the night, and nothing private in it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from servers import BIN, ROOT, PrefectServer, end, medgr2, wait_for
from small_loop import parameters
from small_world import environment

SECONDS, RUN_SECONDS = 400, 900


def prefect(env: dict[str, str], *arguments: str, timeout: float = SECONDS) -> str:
    done = subprocess.run(
        [str(BIN / "prefect"), "--no-prompt", *arguments],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def get(server: PrefectServer, path: str) -> Any:
    with urllib.request.urlopen(f"{server.api}/{path}", timeout=SECONDS) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def deployed(prefect_server: PrefectServer) -> PrefectServer:
    env = prefect_server.environment()
    for pool in ("cpu", "gpu"):
        prefect(env, "work-pool", "create", pool, "--type", "process")
    prefect(env, "deploy", "--all")
    return prefect_server


@pytest.mark.e2e
def test_both_flows_are_deployed_as_documented(deployed: PrefectServer) -> None:
    nightly = get(deployed, "deployments/name/data-refresh/nightly")
    assert nightly["work_pool_name"] == "cpu"
    assert nightly["entrypoint"] == "medgr2.flows.refresh.data_refresh"
    (schedule,) = nightly["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    loop = get(deployed, "deployments/name/closed-loop/loop")
    assert loop["work_pool_name"] == "gpu"
    assert loop["schedules"] == []


@pytest.mark.e2e
def test_the_cron_really_plans_nights(deployed: PrefectServer) -> None:
    nightly = get(deployed, "deployments/name/data-refresh/nightly")["id"]

    def planned() -> list[Any]:
        wanted = {"deployments": {"id": {"any_": [nightly]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        body = json.dumps(wanted)
        request = urllib.request.Request(
            f"{deployed.api}/flow_runs/filter", body.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            found: list[Any] = json.load(answer)
        return found

    wait_for(lambda: len(planned()) > 0, SECONDS, "the scheduler to plan a night")
    assert {run["expected_start_time"][11:16] for run in planned()} == {"02:00"}


@pytest.mark.e2e
def test_parameters_are_forms(deployed: PrefectServer) -> None:
    for name, model in (("data-refresh/nightly", "RefreshParameters"), ("closed-loop/loop", "LoopParameters")):
        schema = get(deployed, f"deployments/name/{name}")["parameter_openapi_schema"]
        fields = schema["definitions"][model]["properties"]
        described = schema["definitions"]["SelectParameters"]["properties"]["tau"]
        assert described["exclusiveMaximum"] == 1
        assert described["description"]
        assert {"refresh", "train"} <= fields.keys() or {"source", "generate", "score"} <= fields.keys()


@pytest.mark.e2e
@pytest.mark.timeout(2400)
def test_a_worker_runs_the_night_and_prefect_learns_nothing_private(deployed: PrefectServer, tmp_path: Path) -> None:
    env = environment(deployed, tmp_path, "inline")
    tonight = parameters(seed=6, cycles=1).refresh.model_copy(update={"night": "one"})
    tonight = tonight.model_copy(update={"world": tonight.world.model_copy(update={"seed": 6})})
    body = json.dumps({"parameters": tonight.model_dump(mode="json")})
    log = tmp_path / "worker.log"
    with log.open("wb") as out:
        worker = subprocess.Popen(
            [str(BIN / "prefect"), "worker", "start", "--pool", "cpu", "--type", "process"],
            env=env, cwd=tmp_path, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        asked = ("data-refresh/nightly", "--params", body, "--watch", "--watch-timeout", str(RUN_SECONDS))
        said = prefect(env, "deployment", "run", *asked, timeout=RUN_SECONDS + SECONDS)
    finally:
        end(worker)
    assert "Completed" in said, said + log.read_text()[-4000:]
    listed = json.loads(medgr2(env, tmp_path, "versions", "--json"))
    assert "loop@1" in {v["version"] for v in listed}
    _nothing_private(tmp_path, deployed.home, log)


def _nothing_private(folder: Path, home: Path, log: Path) -> None:
    (world,) = (folder / "embedded").iterdir()
    rows = [line.split(",") for line in (world / "hospital" / "labels.csv").read_text().splitlines()[1:]]
    patients = {row[1] for row in rows}
    names = {Path(row[0]).name for row in rows}
    words = [json.loads(line) for line in (world / "hospital" / "seed_qa.jsonl").read_text().splitlines()]
    private = patients | names | {word["rationale"] for word in words}
    assert len(private) > 100
    database = sqlite3.connect(f"file:{home / 'prefect.db'}?mode=ro", uri=True, timeout=60)
    dump = "\n".join(database.iterdump()) + log.read_text()
    database.close()
    assert "data-refresh" in dump
    assert sorted(word for word in private if word in dump) == []
