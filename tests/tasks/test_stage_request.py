"""A request on its way to a job: what arrives is what was sent, and its name does not depend on where things lie."""

from __future__ import annotations

from pathlib import Path

from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import ComputeSettings, Settings
from medgr2.schemas.cells import Recipe
from medgr2.tasks.stage_request import NO_LIMIT, StageRequest, post_request, read_request

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


def test_settings_fill_only_what_the_request_leaves_open() -> None:
    mine = StageRequest(recipe=RECIPE, worker="a.b:C", run="night", attempts=1, failure_limit=0.0)
    settled = mine.settled(Settings(compute=ComputeSettings(attempts=5, failure_limit=0.5, deadline_seconds=9)))
    assert (settled.attempts, settled.failure_limit, settled.deadline_seconds) == (1, 0.0, 9)
