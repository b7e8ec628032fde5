"""Where reading commands read from. An empty store is no error, but a mistyped root should not look like one."""

from __future__ import annotations

from pathlib import Path

import click

from medgr2.infra.opening import check_root
from medgr2.infra.settings import StorageSettings, load_settings


def readable_storage() -> StorageSettings:
    storage = load_settings().storage
    check_root(storage)
    if not storage.is_s3 and not Path(storage.root).exists():
        click.echo(f"note: nothing is stored under {storage.root} yet (MEDGR2_STORAGE__ROOT)", err=True)
    return storage
