"""Which weights: named by the digest of their files, so that a cell's key says exactly what did the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medgr2.infra.artifacts import get_folder, put_folder
from medgr2.infra.opening import open_store
from medgr2.infra.settings import ServerSettings, Settings
from medgr2.schemas.errors import SettingsError

EMBEDDED = Path(__file__).with_name("base")
SERVED = "served:"


@dataclass(frozen=True, slots=True)
class ModelRef:
    revision: str
    folder: Path


def base_model(settings: Settings) -> ModelRef:
    """The model that everything starts from, put into the artifact store on first use."""
    named = settings.models.base
    folder = EMBEDDED if named == "embedded" else Path(named).expanduser()
    if not any(folder.glob("*.safetensors")):
        raise SettingsError(
            f"no model in the folder of the base model {named!r}",
            where=str(folder),
            next_command="set MEDGR2_MODELS__BASE to a folder made by save_pretrained, or to 'embedded'",
        )
    return materialise(put_folder(open_store(settings.storage), folder), settings)


def served_model(server: ServerSettings) -> str:
    """The name of weights that somebody else keeps: all that can be known of them is what they are called."""
    return f"{SERVED}{server.model}" + (f"@{server.revision}" if server.revision else "")


def materialise(revision: str, settings: Settings) -> ModelRef:
    """The model of that revision as a local folder, fetched through the cache when it is not there yet."""
    folder = get_folder(open_store(settings.storage), revision, settings.storage.cache_folder)
    return ModelRef(revision, folder)
