"""Which weights: named by the digest of their files, so that a cell's key says exactly what did the work."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from medgr2.infra.artifacts import get_folder, put_folder
from medgr2.infra.opening import open_store
from medgr2.infra.settings import ServerSettings, Settings
from medgr2.schemas.errors import SettingsError

EMBEDDED = Path(__file__).with_name("base")
STUDENT = Path(__file__).with_name("student")
SERVED = "served:"


@dataclass(frozen=True, slots=True)
class ModelRef:
    revision: str
    folder: Path
    told: bool = False
    """It has to be told in words how to reply."""


def base_folder(settings: Settings) -> Path:
    """Where the model lies that writes and judges before any was trained to. Nothing is ever fetched."""
    named = settings.models.base
    folder = EMBEDDED if named == "embedded" else Path(named).expanduser()
    return _whole(folder, f"base model {named!r}", "MEDGR2_MODELS__BASE", "to 'embedded'")


def policy_folder(settings: Settings) -> Path:
    """Where the model lies that policies start from."""
    if named := settings.models.policy:
        return _whole(Path(named).expanduser(), f"policy's start {named!r}", "MEDGR2_MODELS__POLICY", "leave it empty")
    return STUDENT if settings.models.base == "embedded" else base_folder(settings)


def _whole(folder: Path, what: str, setting: str, otherwise: str) -> Path:
    if missing := _missing(folder):
        raise SettingsError(
            f"no whole model in the folder of the {what}: {missing}",
            where=str(folder),
            kept="nothing was started; models are not fetched from the network",
            next_command=f"set {setting} to a folder made by save_pretrained or `hf download NAME --local-dir "
            f"FOLDER`, or {otherwise}",
        )
    return folder


def base_model(settings: Settings) -> ModelRef:
    """The model that writes and judges, put into the artifact store on first use."""
    return _given(base_folder(settings), settings)


def policy_model(settings: Settings) -> ModelRef:
    """The model that policies start from, likewise."""
    return _given(policy_folder(settings), settings)


def _given(folder: Path, settings: Settings) -> ModelRef:
    there = materialise(put_folder(open_store(settings.storage), folder), settings)
    return replace(there, told=settings.models.told)


def _missing(folder: Path) -> str:
    """What is not there, of a model in one file or in several that an index lists."""
    if not folder.is_dir():
        return "there is no such folder"
    index = folder / "model.safetensors.index.json"
    try:
        listed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.is_file() else set()
    except (ValueError, KeyError, AttributeError, TypeError):
        return "the index of its weights is damaged"
    if lost := sum(not (folder / str(name)).is_file() for name in listed):
        return f"{lost} of its {len(listed)} files of weights are missing"
    if not any(folder.glob("*.safetensors")):
        return "it has no safetensors weights"
    return "" if (folder / "config.json").is_file() else "it has no config.json"


def served_model(server: ServerSettings) -> str:
    """The name of weights that somebody else keeps: all that can be known of them is what they are called."""
    return f"{SERVED}{server.model}" + (f"@{server.revision}" if server.revision else "")


def materialise(revision: str, settings: Settings) -> ModelRef:
    """The model of that revision as a local folder, fetched through the cache when it is not there yet."""
    folder = get_folder(open_store(settings.storage), revision, settings.storage.cache_folder)
    return ModelRef(revision, folder)
