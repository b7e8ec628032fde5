"""Everything a stage reads and writes, opened once: settings, objects, lake, images."""

from __future__ import annotations

from dataclasses import dataclass

from medgr2.infra.images import ImageStore
from medgr2.infra.lake import Lake
from medgr2.infra.objects import ObjectStore
from medgr2.infra.opening import open_store, prove_create_only
from medgr2.infra.settings import Settings, load_settings

_PROVEN: set[str] = set()


@dataclass(frozen=True)
class Workspace:
    settings: Settings
    store: ObjectStore
    lake: Lake
    images: ImageStore


def open_workspace(settings: Settings | None = None) -> Workspace:
    """Opens the root for writing. An S3 store has to prove, once a process, that it honours create-only writes."""
    settings = settings or load_settings()
    store = open_store(settings.storage)
    if settings.storage.is_s3 and settings.storage.root not in _PROVEN:
        prove_create_only(store)
        _PROVEN.add(settings.storage.root)
    return Workspace(
        settings=settings,
        store=store,
        lake=Lake(settings.storage),
        images=ImageStore(store, settings.storage.cache_folder),
    )
