"""What a plan says of a recipe that is not the one the stage was done by before."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.schemas.cells import Cell, Recipe
from medgr2.schemas.reports import Plan
from medgr2.tasks.stage import StageRequest, plan, run_stage
from medgr2.tasks.stage_recipes import keep_recipe, what_changed

sys.path.insert(0, str(Path(__file__).parent))

FIRST = Recipe(stage="generate", code="1", model="a" * 64, prompt="Ask about the picture.", parameters={"heat": 1.0})


def changed(**parts: object) -> Recipe:
    return FIRST.model_copy(update=parts)


class Site:
    def __init__(self, tmp_path: Path) -> None:
        self.settings = Settings(
            storage=StorageSettings(root=str(tmp_path / "root")), compute=ComputeSettings(mode="inline")
        )
        self.store = FolderStore(self.settings.storage.root)

    def night(self, recipe: Recipe, images: int, *, only_plan: bool = False) -> Plan:
        plans: list[Plan] = []
        request = StageRequest(recipe=recipe, worker="stage_workers:Counting", run="night").settled(self.settings)
        cells = [recipe.cell(image=str(n), inputs={"n": n}) for n in range(images)]
        if only_plan:
            return plan(request, cells, Journal(self.store, recipe.stage))
        run_stage(request, cells, settings=self.settings, store=self.store, on_plan=plans.append)
        return plans[0]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("parts", "because"),
    [
        ({"model": "b" * 64}, ("model",)),
        ({"prompt": "Ask about the scan."}, ("prompt",)),
        ({"code": "2"}, ("code",)),
        ({"parameters": {"heat": 0.5}}, ("heat",)),
        ({"parameters": {"heat": 1.0, "style": "direct"}}, ("style",)),
        ({"parameters": {}}, ("heat",)),
        ({"model": "b" * 64, "parameters": {"heat": None}}, ("model", "heat")),
    ],
)
def test_the_plan_names_the_part_that_changed(site: Site, parts: dict[str, object], because: tuple[str, ...]) -> None:
    assert site.night(FIRST, 5).because == ()
    foreseen = site.night(changed(**parts), 6, only_plan=True)
    told = site.night(changed(**parts), 6)
    assert told == foreseen
    assert told.because == because
    assert told.line() == f"generate: 6 new ({' and '.join(because)} changed), 0 reused, 0 retried (6 in all)"


def test_new_images_and_nights_that_buy_nothing_need_no_reason(site: Site) -> None:
    assert site.night(FIRST, 5).because == ()
    assert site.night(FIRST, 9).because == ()
    other = changed(model="b" * 64)
    assert site.night(other, 9).because == ("model",)
    assert site.night(other, 9).because == ()
    assert site.night(FIRST, 12).because == (), "back to the model of before: what is new are the images"


def test_a_night_that_died_is_told_the_reason_again(site: Site) -> None:
    site.night(FIRST, 5)
    other = changed(model="b" * 64)

    def die(_: object) -> None:
        raise KeyboardInterrupt

    request = StageRequest(recipe=other, worker="stage_workers:Counting", run="night")
    with pytest.raises(KeyboardInterrupt):
        run_stage(
            request, [other.cell(inputs={"n": 1})], settings=site.settings, store=site.store, on_progress=die,
            on_plan=lambda _: None,
        )  # fmt: skip
    assert site.night(other, 5).because == ("model",)


def test_of_several_recipes_the_nearest_is_compared_with(site: Site) -> None:
    site.night(FIRST, 3)
    far = changed(model="b" * 64, prompt="Another.", code="2")
    site.night(far, 3)
    assert what_changed(site.store, changed(prompt="Yet another.")) == ("prompt",)
    assert what_changed(site.store, far.model_copy(update={"parameters": {"heat": 2.0}})) == ("heat",)
    assert what_changed(site.store, Recipe(stage="score", code="1")) == ()


def test_no_prompt_is_kept(site: Site) -> None:
    keep_recipe(site.store, FIRST)
    kept = [site.store.get(info.key) for info in site.store.list("recipes/")]
    assert len(kept) == 1
    assert b"picture" not in kept[0]


def test_a_dry_run_writes_nothing(site: Site) -> None:
    cells: list[Cell] = [FIRST.cell(inputs={"n": 1})]
    request = StageRequest(recipe=FIRST, worker="stage_workers:Counting", run="night").settled(site.settings)
    assert plan(request, cells, Journal(site.store, "generate")).new == 1
    assert list(site.store.list("")) == []
