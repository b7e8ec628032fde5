"""Opening the engine that a recipe names."""

from __future__ import annotations

from pydantic import JsonValue

from medgr2.infra.compute import Resources
from medgr2.infra.settings import ServerSettings, Settings
from medgr2.models.engines.seam import Engine
from medgr2.models.model_ref import SERVED, materialise, served_model
from medgr2.schemas.cells import Recipe
from medgr2.schemas.errors import MissingExtraError, SettingsError


def open_engine(recipe: Recipe, settings: Settings) -> Engine:
    """Without a word in its parameters: the transformers engine, in this process."""
    kind = recipe.parameters.get("engine", "transformers")
    if kind == "openai":
        return open_served(recipe, settings.generator, slow_pictures=settings.storage.is_s3)
    folder = materialise(recipe.model, settings).folder
    if kind == "vllm":
        from medgr2.models.engines.vllm import load_vllm

        return load_vllm(folder, settings.generator, settings.models.device)
    from medgr2.models.engines.transformers import load_engine

    return load_engine(folder, str(recipe.parameters.get("dtype", "float64")), settings.models.device)


def engine_parameters(settings: Settings) -> dict[str, JsonValue]:
    """How models of our own are asked here, as far as it can change what they say. On a CPU, with float64: nothing."""
    on_cpu = settings.models.device == "cpu"
    if settings.generator.engine == "vllm":
        return {"engine": "vllm", "dtype": "float32" if on_cpu else "auto"}
    return {} if on_cpu else {"dtype": "bfloat16"}


def engine_resources(settings: Settings) -> Resources:
    python = str(settings.generator.python or "") if settings.generator.engine == "vllm" else ""
    return Resources(gpus=1 if settings.models.device == "cuda" else 0, python=python)


def open_served(recipe: Recipe, server: ServerSettings, *, slow_pictures: bool) -> Engine:
    try:
        from medgr2.models.engines.http import HttpEngine
    except ModuleNotFoundError as missing:
        if missing.name != "aiohttp":
            raise
        raise MissingExtraError(
            "aiohttp is not installed", where=server.variable("URL"), next_command="pip install 'medgr2[http]'"
        ) from None
    if recipe.model != served_model(server):
        raise SettingsError(
            f"the settings name another served model than the one to be asked, {recipe.model.removeprefix(SERVED)}",
            where=f"{server.variable('MODEL')} and __REVISION",
            next_command="set them back, or give the night another name with --night",
        )
    return HttpEngine(server, server.model, slow_pictures=slow_pictures)
