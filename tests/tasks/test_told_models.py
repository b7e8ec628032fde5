"""Models that were never taught how to reply are told it, wherever they are asked."""

from __future__ import annotations

from pathlib import Path

from medgr2.infra.settings import ModelSettings, Settings, StorageSettings
from medgr2.infra.workspace import open_workspace
from medgr2.models.answer_forms import answering_of
from medgr2.models.model_ref import base_model
from medgr2.models.prompts import load_prompt
from medgr2.models.registry import Registry
from medgr2.schemas.parameters import ScoreParameters
from medgr2.tasks import score
from medgr2.tasks.night import register_given


def test_a_given_model_that_is_told_how_to_reply_is_another_and_judges_as_such(tmp_path: Path) -> None:
    """Asked in other words, the same weights give other answers: their marks are not each other's."""
    plain = Settings(storage=StorageSettings(root=str(tmp_path / "root")))
    told = plain.model_copy(update={"models": ModelSettings(told=True)})
    ids, answering = set(), []
    for settings in (plain, told):
        workspace = open_workspace(settings)
        registry = Registry(workspace.store, workspace.lake)
        ids.add(register_given(registry, base_model(settings)))
        row = registry.model(register_given(registry, base_model(settings)))
        answering.append(answering_of(row["metrics"]))
    assert len(ids) == 2
    assert [how.prompt for how in answering] == ["answer.v1", "answer.think.v1"]
    recipes = [score.recipe("answers", "0" * 64, ScoreParameters(), told=told) for told in (False, True)]
    assert [recipe.prompt == load_prompt(how.prompt) for recipe, how in zip(recipes, answering, strict=True)] == [
        True
    ] * 2
    assert [recipe.parameters["max_new_tokens"] for recipe in recipes] == [64, 512]
