"""A night: what was decided before it began, and stays decided when it is killed and run again."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgr2.infra import versions
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.models.answer_forms import METRIC, answering_of, of_given
from medgr2.models.model_ref import SERVED, ModelRef, base_model, policy_model, served_model
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.digest import digest_of, sha256_hex
from medgr2.schemas.errors import DataError, NotFoundError, SettingsError
from medgr2.schemas.parameters import GenerateParameters, RefreshParameters
from medgr2.schemas.vocabulary import Role, Split
from medgr2.tasks.outdated import superseded


class Night(BaseModel):
    """The models are frozen for the night: one promoted meanwhile serves the next. So is what counts as history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    dataset: str
    base_id: str = Field(description="Registry's id of the base model.")
    base: str = Field(description="Artifact of the base model.")
    start_id: str = Field(default="", description="Registry's id of what policies start from; empty: the base.")
    generator: str = Field(description="Artifact that writes tonight's drafts, or the name of a served model.")
    scorer: str = Field(description="Artifact whose signals judge them.")
    reward: str | None = Field(default=None, description="Artifact of the trained reward that looks as well.")
    verifier: str | None = Field(
        default=None, description="Name of the served model of another family, if one is asked."
    )
    champion_id: str | None = Field(description="The policy that a candidate of tonight has to beat.")
    images: str = Field(description="SHA-256 of the list of images that it asks about.")
    history: int | None = Field(description="Newest version of the dataset when the night began.")
    began: int = Field(default=0, description="When, in nanoseconds: a budget is for what was bought since.")

    @property
    def start(self) -> str:
        return self.start_id or self.base_id

    @property
    def served(self) -> bool:
        """Somebody else keeps the generator's weights: it cannot be trained here."""
        return self.generator.startswith(SERVED)


def open_night(workspace: Workspace, parameters: RefreshParameters) -> Night:
    """The night of that name: as it was opened before or, the first time, with the champions of now."""
    night, images = _conceive(workspace, parameters)
    key = _key(parameters)
    if not workspace.store.exists(key):
        # Written first, under its own hash: the night names its list, so what one that was killed or overtaken
        # before the next line has left here is nobody's.
        workspace.store.create(_list_key(night), "\n".join(images).encode())
        if workspace.store.create(key, night.model_dump_json().encode()):
            return night
    return _opened(workspace, key, night)


def foresee(workspace: Workspace, parameters: RefreshParameters) -> tuple[Night, list[str]]:
    """The night of that name, or the one that would begin now, with its images. Nothing is written down."""
    night, images = _conceive(workspace, parameters)
    key = _key(parameters)
    if workspace.store.exists(key):
        night = _opened(workspace, key, night)
        images = images_of(workspace, night)
    return night, images


def _key(parameters: RefreshParameters) -> str:
    return f"nights/{parameters.run}.json"


def _conceive(workspace: Workspace, parameters: RefreshParameters) -> tuple[Night, list[str]]:
    settings = workspace.settings
    registry = Registry(workspace.store, workspace.lake)
    base = base_model(settings)
    base_id = register_given(registry, base)
    start_id = register_given(registry, policy_model(settings))
    champion = registry.champion(Role.POLICY)
    images = _training_images(workspace)
    if parameters.generate.unasked_only:
        asked = _asked_by_others(workspace, parameters.dataset, parameters.run)
        images = [image for image in images if image not in asked]
    images = images[: parameters.generate.images]
    generator = (
        served_model(settings.generator)
        if settings.generator.engine == "openai"
        else _artifact(registry, registry.champion(Role.GENERATOR), base.revision)
    )
    night = Night(
        run=parameters.run,
        dataset=parameters.dataset,
        base_id=base_id,
        base=base.revision,
        start_id=start_id,
        generator=generator,
        # A student that grew up is still no judge: its teacher taught it what it knows.
        scorer=_scorer(registry, champion if start_id == base_id else None, base),
        reward=_artifact(registry, registry.champion(Role.REWARD), "") or None,
        verifier=_verifier(settings),
        champion_id=champion,
        images=sha256_hex("\n".join(images).encode()),
        history=_newest(workspace, parameters.dataset),
        began=time.time_ns(),
    )
    return night, images


def _opened(workspace: Workspace, key: str, now: Night) -> Night:
    """A night goes on with what it began with, or not at all."""
    opened = _opened_as(workspace, key)
    if opened.base != now.base:
        raise _another(workspace, key, "base model", "MEDGR2_MODELS__BASE")
    if opened.start != now.start:
        raise _another(workspace, key, "model that policies start from", "MEDGR2_MODELS__POLICY")
    if opened.generator != now.generator and (opened.served or now.served):
        raise _another(workspace, key, "served generator", "MEDGR2_GENERATOR__*")
    if opened.verifier is not None and opened.verifier != now.verifier:
        raise _another(workspace, key, "verifier", "MEDGR2_VERIFIER__*")
    return opened


def _opened_as(workspace: Workspace, key: str) -> Night:
    try:
        return Night.model_validate_json(workspace.store.get(key))
    except ValidationError:
        raise _unreadable(workspace, key) from None


def _verifier(settings: Settings) -> str | None:
    verifier, generator = settings.verifier, settings.generator
    if not verifier.on:
        return None
    if generator.engine == "openai" and verifier.model == generator.model:
        raise SettingsError(
            f"the verifier is the model that writes the drafts, {verifier.model}: it would find its own errors right",
            where=verifier.variable("MODEL"),
            next_command=f"set {verifier.variable('MODEL')} to a model of another family",
        )
    return served_model(verifier)


def _another(workspace: Workspace, key: str, what: str, setting: str) -> DataError:
    return DataError(
        f"the {what} is not the one this night began with",
        where=f"{key} in {workspace.store.uri}",
        kept="everything the night has finished",
        next_command=f"set {setting} back, or give the night another name with --night",
    )


def images_of(workspace: Workspace, night: Night) -> list[str]:
    """The images that the night asks about, in the order of their ids."""
    found = workspace.store.get(_list_key(night))
    if sha256_hex(found) != night.images:
        raise _unreadable(workspace, _list_key(night))
    return found.decode().split()


def waiting(workspace: Workspace, night: Night, asked: GenerateParameters) -> int:
    """Training images that this night does not ask about, of all or of so many: they are the next one's."""
    listed = set(images_of(workspace, night))
    others = set(_training_images(workspace)) - listed
    if asked.unasked_only:
        others -= _asked_by_others(workspace, night.dataset, night.run)
    return len(others) if asked.images is None else min(len(others), max(0, asked.images - len(listed)))


def _training_images(workspace: Workspace) -> list[str]:
    """Of a file that was edited in place only what it gives now."""
    rows = workspace.lake.read("images", columns=["image_id", "split"]).to_pylist()
    replaced = superseded(workspace.lake)
    return sorted(row["image_id"] for row in rows if row["split"] == Split.TRAIN and row["image_id"] not in replaced)


def _asked_by_others(workspace: Workspace, dataset: str, run: str) -> set[str]:
    """What the other nights of the dataset ask about, whether they have got there yet or not."""
    keys = [found.key for found in workspace.store.list(f"nights/{dataset}/")]
    nights = [_opened_as(workspace, key) for key in keys if key.endswith(".json")]
    return {image for night in nights if night.run != run for image in images_of(workspace, night)}


def _list_key(night: Night) -> str:
    return f"nights/{night.run}.{night.images}.images"


def _unreadable(workspace: Workspace, key: str) -> DataError:
    return DataError(
        "what this night began with is damaged, or was written by another release",
        where=f"{key} in {workspace.store.uri}",
        kept="everything the night has finished",
        next_command="restore the object from a backup, or give the night another name with --night",
    )


def _artifact(registry: Registry, model_id: str | None, otherwise: str) -> str:
    return str(registry.model(model_id)["artifact"]) if model_id else otherwise


def register_given(registry: Registry, model: ModelRef) -> str:
    """A model that was not trained here. One that is told how to reply is registered as such, apart from the same one
    that is not: what they answer is not comparable."""
    how = of_given(told=model.told)
    apart: dict[str, Any] = {"recipe": digest_of(how.model_dump()), "metrics": {METRIC: how.model_dump()}}
    told = apart if model.told else {}
    return registry.register(Registration(role=Role.BASE, artifact=model.revision, method="given", run="base", **told))


def _scorer(registry: Registry, champion: str | None, base: ModelRef) -> str:
    """The champion where it is asked as the base is. One that was taught another form says nothing that the signals,
    which ask all scorers alike, can read."""
    model = registry.model(champion) if champion else None
    if model is None:
        return base.revision
    theirs, ours = answering_of(model["metrics"]), of_given(told=base.told)
    return str(model["artifact"]) if (theirs.style, theirs.prompt) == (ours.style, ours.prompt) else base.revision


def _newest(workspace: Workspace, dataset: str) -> int | None:
    try:
        return versions.resolve(workspace.lake, dataset).version
    except NotFoundError:
        return None
