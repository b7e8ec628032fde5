"""Nights whose drafts come from a server, by the commands that a person types: budgets, kills, plans and targets."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from scripted_server import said, serving, text_of
from servers import BIN, PrefectServer, medgr2

IN_FLIGHT, BUDGET = 8, 60
HANDED = IN_FLIGHT + 4
"""Cells that may be without a durable answer: those in flight, and a few whose answers are being written."""
NIGHT = ("refresh", "--source", "embedded", "--reviewer", "phantoms", "--night", "one", "--images", "40")


class Writer:
    """Writes another draft for every prompt, and counts."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.kill_at: int | None = None
        self.now = threading.Event()

    async def __call__(self, _: web.Request, body: dict[str, Any]) -> web.Response:
        name = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()[:12]
        self.calls[name] += 1
        if self.total == self.kill_at:
            self.now.set()
        kind = text_of(body).partition('of the type "')[2].partition('"')[0]
        draft = {
            "reflection": "It can be asked.", "question": f"{kind}: what does picture {name} show?",
            "options": ["a cyst", "a nodule", "a fracture", "an effusion"], "answer": "B",
            "rationale": "A round spot can be seen, so it is a nodule.",
        }  # fmt: skip
        return said(json.dumps(draft))

    @property
    def total(self) -> int:
        return sum(self.calls.values())


@pytest.fixture
def writer() -> Iterator[tuple[Writer, str]]:
    found = Writer()
    with serving(found) as url:
        yield found, url


def environment(server: PrefectServer, folder: Path, **more: str) -> dict[str, str]:
    return server.environment(
        MEDGR2_STORAGE__ROOT=str(folder / "root"),
        MEDGR2_EMBEDDED__FOLDER=str(folder / "embedded"),
        MEDGR2_COMPUTE__MODE="inline",
        **more,
    )


def rows(env: dict[str, str], folder: Path, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(medgr2(env, folder, "query", "--json", sql))
    return found


@pytest.mark.e2e
@pytest.mark.crash
def test_a_budget_is_spent_once_however_often_the_night_is_killed(
    prefect_server: PrefectServer, tmp_path: Path, writer: tuple[Writer, str]
) -> None:
    model, url = writer
    env = environment(
        prefect_server,
        tmp_path,
        MEDGR2_GENERATOR__ENGINE="openai",
        MEDGR2_GENERATOR__URL=url,
        MEDGR2_GENERATOR__MODEL="one",
        MEDGR2_GENERATOR__IN_FLIGHT=str(IN_FLIGHT),
        MEDGR2_GENERATOR__PRICE_OUT="1000",
    )
    night = (*NIGHT, "--budget", f"calls={BUDGET}")
    model.kill_at = BUDGET // 2
    process = subprocess.Popen(
        [str(BIN / "medgr2"), *night], env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not model.now.wait(1):
            assert process.poll() is None or model.now.is_set(), "the night did not get there"
    finally:
        process.kill()
        process.wait(120)
    bought = model.total
    report = json.loads(medgr2(env, tmp_path, *night, "--json"))["generate"]
    # A cell may take two calls, so the last one of an odd rest is not begun.
    assert report["asked"] in (BUDGET - 1, BUDGET)
    assert report["left"] > 0
    assert report["asked"] + report["left"] == report["possible"] == report["plan"]["found"]
    assert model.total <= BUDGET + HANDED
    again = model.total - len(model.calls)
    assert again <= HANDED, "only what was in flight is bought again"
    assert bought >= BUDGET // 2

    told = medgr2(env, tmp_path, *NIGHT, "--plan")
    assert f"generate: {report['left']} new, {report['asked']} reused" in told
    assert model.total <= BUDGET + HANDED, "a plan buys nothing"

    medgr2(env, tmp_path, *NIGHT)
    assert len(model.calls) == report["possible"]
    before = model.total
    medgr2(env, tmp_path, *NIGHT)
    assert model.total == before, "the same again costs nothing"

    (spent,) = rows(
        env, tmp_path, "select count(*) n, sum(calls) calls, sum(money) money from outcomes where stage = 'generate'"
    )
    assert spent["n"] == spent["calls"] == report["possible"]
    assert spent["money"] == pytest.approx(3 * 1000 / 1e6 * report["possible"])
    items = rows(env, tmp_path, "select distinct generator, prompt from items where origin = 'generated'")
    assert items == [{"generator": "served:one", "prompt": "generate.meta-cognitive.v1"}]


@pytest.mark.e2e
def test_a_target_ends_the_asking(prefect_server: PrefectServer, tmp_path: Path) -> None:
    env = environment(prefect_server, tmp_path)
    night = (*NIGHT[:-1], "200", "--target", "40", "--json")
    report = json.loads(medgr2(env, tmp_path, *night))
    assert report["appraisal"]["accepted"] >= 40
    assert 0 < report["generate"]["asked"] < report["generate"]["possible"] / 2
    assert report["publish"]["added"] >= 40
    again = json.loads(medgr2(env, tmp_path, *night))
    assert again["publish"]["version"] == report["publish"]["version"]
    assert again["generate"]["asked"] == report["generate"]["asked"]
