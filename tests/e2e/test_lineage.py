"""`medgr2 models --json` after a loop: from every model back to the data, the judges and the words that made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers import PrefectServer, medgr2
from small_world import environment

from medgr2.infra.lake import Lake
from medgr2.infra.settings import StorageSettings


@pytest.fixture
def told(prefect_server: PrefectServer, undisturbed: Path) -> list[dict[str, Any]]:
    env = environment(prefect_server, undisturbed, "inline")
    found: list[dict[str, Any]] = json.loads(medgr2(env, undisturbed, "models", "--json"))
    return found


def one(told: list[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    (found,) = [story for story in told if all(story[name] == value for name, value in wanted.items())]
    return found


@pytest.mark.e2e
def test_every_model_is_told_with_all_that_it_came_from(told: list[dict[str, Any]], undisturbed: Path) -> None:
    lake = Lake(StorageSettings(root=str(undisturbed / "root")))
    assert {story["model_id"] for story in told} == set(lake.read("models")["model_id"].to_pylist())
    assert {story["role"] for story in told} == {"base", "generator", "policy", "reward"}
    versions = {(v["dataset"], v["version"]): v for v in lake.read("versions").to_pylist()}
    uses = lake.read("uses").to_pylist()
    by_name = {story["name"]: story for story in told}
    for story in told:
        read = {(one["dataset"], one["version"]): one["digest"] for one in story["data"]}
        assert read == {
            (use["dataset"], use["version"]): use["digest"]
            for use in uses
            if use["model_id"] == story["model_id"] and use["purpose"] == "train"
        }
        assert all(versions[which]["digest"] == digest for which, digest in read.items())
        if story["role"] != "base":
            assert by_name[story["ancestors"][-1]]["role"] == "base"
            assert len(story["artifact"]) == 64
            assert story["recipe"]
            assert story["code"]


@pytest.mark.e2e
def test_a_policy_names_its_writer_its_judges_its_exam_and_its_look(
    told: list[dict[str, Any]], undisturbed: Path
) -> None:
    policy = one(told, method="grpo")
    night = json.loads(next((undisturbed / "root" / "nights" / "loop").glob("*cycle01.json")).read_text())
    start = one(told, model_id=night["start_id"])["name"]
    base = one(told, model_id=night["base_id"])["name"]
    assert policy["ancestors"] == [one(told, role="policy", method="sft")["name"], start]
    (generated,) = [data for data in policy["data"] if data["dataset"] == "loop"]
    (written,), (judged,) = generated["written_by"], generated["judged_by"]
    assert (written["generator"], written["generator_name"]) == (night["generator"], base)
    assert (judged["scorer"], judged["scorer_name"]) == (night["scorer"], base)
    assert len(judged["calibration"]) == 64
    assert written["items"] == judged["items"] == generated["items"]
    training = policy["metrics"]["training"]
    assert training["settings"]["reward"] == "default"
    exam = {row["condition"]: row for row in policy["evaluations"]}
    assert {"image", "blank", "swapped"} <= set(exam)
    assert policy["heldout"] == exam["image"]["macro"]
    (look,) = policy["looks"]
    assert (look["heldout"], look["against"], look["look"], look["level"]) == ("heldout@1", start, 1, 0.025)
    generator = one(told, role="generator")
    assert generator["champion"]
    assert [(move["action"], move["champion"]) for move in generator["moves"]] == [("promote", "generator@1")]


@pytest.mark.e2e
def test_the_next_night_takes_what_this_one_taught(told: list[dict[str, Any]], undisturbed: Path) -> None:
    """Seen without living it: what a night that begins now would be frozen with."""
    from small_loop import parameters

    from medgr2.infra.settings import load_settings
    from medgr2.infra.workspace import open_workspace
    from medgr2.tasks.night import foresee

    workspace = open_workspace(load_settings({"MEDGR2_STORAGE__ROOT": str(undisturbed / "root")}))
    night, _ = foresee(workspace, parameters(seed=5, cycles=2).night(2))
    champion = {story["role"]: story["artifact"] for story in told if story["champion"]}
    assert night.generator == champion["generator"] != night.base
    assert night.reward == champion.get("reward")
    # A policy that started from a student judges nothing: the base does.
    judges = champion.get("policy", night.base) if night.start == night.base_id else night.base
    assert night.scorer == judges
