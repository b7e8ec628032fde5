"""Which engine a recipe gets, and what is said when it cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from medgr2.infra.settings import GeneratorSettings, Settings, StorageSettings
from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.opening import open_engine
from medgr2.models.engines.transformers import TransformersEngine
from medgr2.models.model_ref import base_model
from medgr2.schemas.cells import Recipe
from medgr2.schemas.errors import MissingExtraError, NotFoundError, SettingsError


def served(tmp_path: Path, **more: Any) -> Settings:
    generator = GeneratorSettings.model_validate(
        {"engine": "openai", "url": "http://127.0.0.1:1/v1", "model": "m", "revision": "r1", **more}
    )
    return Settings(storage=StorageSettings(root=str(tmp_path / "root")), generator=generator)


def recipe(model: str, **parameters: Any) -> Recipe:
    return Recipe(stage="generate", code="1", model=model, parameters=parameters)


def test_without_a_word_it_is_the_one_of_this_process(tmp_path: Path) -> None:
    settings = Settings(storage=StorageSettings(root=str(tmp_path / "root")))
    base = base_model(settings)
    engine = open_engine(recipe(base.revision, dtype="float64"), settings)
    assert isinstance(engine, TransformersEngine)
    assert engine.repeatable
    with pytest.raises(NotFoundError):
        open_engine(recipe("0" * 64, dtype="float64"), settings)


def test_a_served_model_is_asked_over_http(tmp_path: Path) -> None:
    engine = open_engine(recipe("served:m@r1", engine="openai"), served(tmp_path))
    assert isinstance(engine, HttpEngine)
    assert not engine.repeatable


@pytest.mark.parametrize("change", [{"model": "other"}, {"revision": "r2"}, {"revision": ""}])
def test_settings_that_name_another_model_than_the_cells_are_refused(tmp_path: Path, change: dict[str, str]) -> None:
    """Its drafts would be kept under the wrong name."""
    with pytest.raises(SettingsError, match="m@r1"):
        open_engine(recipe("served:m@r1", engine="openai"), served(tmp_path, **change))


def test_without_aiohttp_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("medgr2.models.engines.http")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtraError) as e:
        open_engine(recipe("served:m@r1", engine="openai"), served(tmp_path))
    assert "pip install" in str(e.value)
