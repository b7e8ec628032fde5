"""Where a source's labels are: a file named by the operator, one that lies in the source, or none."""

from __future__ import annotations

import tempfile
from pathlib import Path

from medgr2.infra.objects import ObjectStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.infra.sources import Source
from medgr2.schemas.errors import NotFoundError, UsageError
from medgr2.schemas.intake import IntakeParameters
from medgr2.tasks.intake.case import Hasher
from medgr2.tasks.intake.columns import NOTHING, Columns
from medgr2.tasks.intake.labels import Labels, read_labels

USUAL = ("labels.csv", "labels.parquet", "labels.jsonl")


def read_telling(
    source: Source, labels: str, parameters: IntakeParameters, storage: StorageSettings, hashed: Hasher
) -> Labels:
    columns = Columns.of(parameters.columns, parameters.keep)
    if labels.startswith("s3://") or (not labels and source.address.startswith("s3://")):
        return _from_bucket(labels or source.address, bool(labels), storage, columns, hashed)
    folder = Path(source.address)
    if labels:
        return read_labels(Path(labels), columns, hashed)
    found = [name for name in USUAL if (folder / name).is_file()]
    if len(found) > 1:
        raise UsageError(
            f"the source holds {' and '.join(found)}", where=source.address, kept=NOTHING,
            next_command=f"medgr2 ingest SOURCE --labels SOURCE/{found[0]}",
        )  # fmt: skip
    return read_labels(folder / found[0], columns, hashed) if found else Labels.none()


def _from_bucket(address: str, named: bool, storage: StorageSettings, columns: Columns, hashed: Hasher) -> Labels:
    """Fetched to a private folder for as long as they are read: they may name patients."""
    prefix, _, name = address.rpartition("/") if named else (address, "", "")
    store = open_store(storage.model_copy(update={"root": prefix}))
    wanted = (name,) if named else USUAL
    with tempfile.TemporaryDirectory(prefix="medgr2-") as folder:
        for one in wanted:
            if (path := _fetched(store, one, Path(folder))) is not None:
                return read_labels(path, columns, hashed)
    if named:
        raise NotFoundError(
            "no labels file", where=address, kept=NOTHING, next_command="medgr2 ingest SOURCE --labels FILE"
        )
    return Labels.none()


def _fetched(store: ObjectStore, name: str, folder: Path) -> Path | None:
    try:
        store.get_file(name, folder / name)
    except NotFoundError:
        return None
    return folder / name
