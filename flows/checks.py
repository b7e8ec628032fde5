"""The checks behind `medgr2 doctor`. Each says what it saw and, when that is not good, what to type."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from medgr2.infra.settings import Settings
from medgr2.schemas.errors import Medgr2Error, MissingExtraError, StorageError

LOW_DISK_GB = 2


class Check(BaseModel):
    """`absent` is an extra that is not installed: no fault unless a command needs it."""

    model_config = ConfigDict(frozen=True)

    check: str
    state: Literal["ok", "absent", "broken"]
    seen: str
    next: str = ""


def run_checks(settings: Settings) -> list[Check]:
    checks: list[Callable[[], Check]] = [
        lambda: Check(check="python", state="ok", seen=f"{platform.python_version()} on {os.cpu_count()} cores"),
        lambda: _store(settings),
        lambda: _tables(settings),
        lambda: _patient_key(settings),
        lambda: _disk(settings),
        lambda: _base_model(settings),
    ]
    return [_guarded(check) for check in checks] + list(_extras())


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Medgr2Error as e:
        state: Literal["absent", "broken"] = "absent" if isinstance(e, MissingExtraError) else "broken"
        return Check(check=e.where or "storage", state=state, seen=e.what, next=e.next_command)


def _store(settings: Settings) -> Check:
    from medgr2.infra.opening import open_store, prove_create_only

    prove_create_only(open_store(settings.storage))
    return Check(check="storage", state="ok", seen=f"{settings.storage.root} keeps create-only writes")


def _tables(settings: Settings) -> Check:
    from medgr2.infra.query import query

    names = query(settings.storage, "SHOW TABLES").num_rows
    return Check(check="lake", state="ok", seen=f"{names} tables and views can be read")


def _patient_key(settings: Settings) -> Check:
    from medgr2.infra.privacy import patient_hasher

    patient_hasher(settings)
    given = settings.privacy.patient_key is not None
    return Check(check="patient key", state="ok", seen="from the environment" if given else "a file under the root")


def _disk(settings: Settings) -> Check:
    folder = settings.storage.cache_folder
    while not os.path.exists(folder):  # noqa: PTH110  Path.exists raises below a file
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if free < LOW_DISK_GB:
        raise StorageError(
            f"only {free:.1f} GB free", where=str(folder), next_command="free some space, or move the cache"
        )
    return Check(check="disk", state="ok", seen=f"{free:.0f} GB free")


def _base_model(settings: Settings) -> Check:
    named = settings.models.base
    folder = Path(__file__).parents[1] / "models" / "base" if named == "embedded" else Path(named).expanduser()
    weights = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    if not weights:
        raise StorageError(
            "no *.safetensors in the base model's folder",
            where=str(folder),
            next_command="set MEDGR2_MODELS__BASE to a folder made by save_pretrained, or to 'embedded'",
        )
    return Check(check="base model", state="ok", seen=f"{named}, {weights / 1e6:.1f} MB of weights")


def _extras() -> Iterator[Check]:
    for extra, packages in {
        "flows": ("prefect",),
        "ray": ("ray",),
        "models": ("torch", "transformers"),
        "train": ("trl", "datasets"),
    }.items():
        seen, missing = [], False
        for package in packages:
            try:
                seen.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                missing = True
        yield Check(
            check=f"extra [{extra}]",
            state="absent" if missing else "ok",
            seen=", ".join(seen) or "not installed",
            next=f"pip install 'medgr2[{extra}]'" if missing else "",
        )
