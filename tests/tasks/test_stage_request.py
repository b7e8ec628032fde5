"""A request on its way to a job: what arrives is what was sent, and its name does not depend on where things lie."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import ComputeSettings, Settings
from medgr2.schemas.cells import Recipe
from medgr2.schemas.usage import Budget
from medgr2.tasks.stage_request import NO_LIMIT, Limit, StageRequest, post_request, read_request

RECIPE = Recipe(stage="squares", code="1", prompt="µ", parameters={"a": [1, 2.5, None]})
REQUEST = StageRequest(recipe=RECIPE, worker="a.b:C", run="night").settled(
    Settings(compute=ComputeSettings(attempts=7))
)
CELLS = [RECIPE.cell(image=f"{n}", parents=("p",), inputs={"n": n}, locator=f"/somewhere/{n}") for n in range(5)]


def test_what_was_posted_is_read(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    key, _ = post_request(store, REQUEST, CELLS)
    request, cells, limit = read_request(store, key)
    assert (request, cells, limit) == (REQUEST, CELLS, NO_LIMIT)
    assert request.recipe.digest == RECIPE.digest
    assert request.attempts == 7


def test_the_name_depends_on_the_question_only(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    key, digest = post_request(store, REQUEST, CELLS)
    moved = [RECIPE.cell(image=c.image, parents=c.parents, inputs=c.inputs, locator="/moved") for c in CELLS[::-1]]
    assert post_request(store, REQUEST, moved) == (key, digest)
    assert post_request(store, REQUEST, CELLS[:4])[1] != digest
    assert post_request(store, REQUEST.model_copy(update={"run": "another"}), CELLS)[1] != digest


def test_a_budget_travels_with_the_request_and_is_part_of_its_name(tmp_path: Path) -> None:
    store, limit = FolderStore(tmp_path), Limit(Budget(calls=7, money=0.5), 1234)
    key, digest = post_request(store, REQUEST, CELLS, limit)
    assert read_request(store, key)[2] == limit
    others = (NO_LIMIT, limit._replace(since=1235), limit._replace(budget=Budget(calls=8)))
    assert digest not in {post_request(store, REQUEST, CELLS, other)[1] for other in others}


def test_a_job_streams_in_its_own_process_and_keeps_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from medgr2.tasks import stage_job

    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for name, value in {"STORAGE__ROOT": str(tmp_path / "root"), "COMPUTE__MODE": "ray-job"}.items():
        monkeypatch.setenv(f"MEDGR2_{name}", value)
    store = FolderStore(tmp_path / "root")
    request = StageRequest(
        recipe=RECIPE.model_copy(update={"stage": "asked"}),
        worker="test_stage_budget:Buyer",
        run="night",
        in_flight=4,
        calls=3,
    )
    cells = [request.recipe.cell(inputs={"n": n}) for n in range(30)]
    settled = request.settled(Settings())
    key, _ = post_request(store, settled, cells, Limit(Budget(calls=20), time.time_ns()))
    assert stage_job.main([key]) == 0
    assert "left: the budget is spent" in capsys.readouterr().out
    held = Journal(store, "asked").outcomes()
    assert set(held) == {c.key for c in cells[: len(held)]}
    assert 18 <= sum(o.usage.calls for o in held.values() if o.usage) <= 20


def test_settings_fill_only_what_the_request_leaves_open() -> None:
    mine = StageRequest(recipe=RECIPE, worker="a.b:C", run="night", attempts=1, failure_limit=0.0)
    settled = mine.settled(Settings(compute=ComputeSettings(attempts=5, failure_limit=0.5, deadline_seconds=9)))
    assert (settled.attempts, settled.failure_limit, settled.deadline_seconds) == (1, 0.0, 9)
