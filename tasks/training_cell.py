"""One training, one cell: alone on its scratch folder, finished by whoever runs it again, and stored once."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medgr2.infra import notice
from medgr2.infra.artifacts import holds, put_folder
from medgr2.infra.checkpoint_vault import CheckpointVault
from medgr2.infra.compute import Resources
from medgr2.infra.objects import ObjectStore
from medgr2.infra.settings import Settings
from medgr2.models.care import Care, under
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import DataError, NightInterruptedError, NightStoppedError
from medgr2.tasks.stage_request import StageRequest

DEADLINE_SECONDS = 12 * 3600.0
Training = Callable[[Path], dict[str, Any]]
"""Trains into the folder, which it makes, and tells what there is to measure."""


def training_request(recipe: Recipe, worker: str, run: str, processes: int = 1) -> StageRequest:
    """Any failure ends the stage: nothing goes on from a model that is not there. Of several processes that share the
    training each has a GPU, where it is one for GPUs."""
    return StageRequest(
        recipe=recipe,
        worker=worker,
        batch_size=1,
        run=run,
        failure_limit=0.0,
        deadline_seconds=DEADLINE_SECONDS,
        saves=True,
        resources=Resources(gpus=_gpus(recipe) * processes),
    )


def _gpus(recipe: Recipe) -> int:
    """Ray hides the GPUs from who did not ask for one."""
    methods = (recipe.parameters.get(name) for name in ("sft", "grpo", "settings"))
    return int(any(isinstance(method, dict) and method.get("device") == "cuda" for method in methods))


def train_once(cell: Cell, settings: Settings, store: ObjectStore, prepare: Callable[[], Training]) -> Outcome:
    """What was trained before is found. A DataError of `prepare` may be mended, a damaged parent or a version that can
    not be read, and is a failure; one of the training is decided by data and recipe, and is a verdict."""
    # One cache may serve several roots: what one of them has trained is not in the store of another.
    root = sha256_hex(settings.storage.root.encode())[:16]
    scratch = settings.storage.cache_folder / "training" / root / cell.key
    vault = CheckpointVault(store, cell.key, settings.training.keep_best)
    with _alone(scratch), notice.heeded():
        note = scratch / "done.json"
        value = _done(store, note)
        if value is None:
            training = prepare()
            try:
                with under(_care(settings, vault)):
                    metrics = training(scratch / "model")
            except DataError as error:
                # A verdict is final: nobody goes on from its checkpoints.
                shutil.rmtree(scratch / "model.work", ignore_errors=True)
                vault.forget()
                return Outcome.rejected(cell, "not_trainable", detail=error.what)
            value = {"artifact": put_folder(store, scratch / "model"), "metrics": metrics}
            note.with_suffix(".new").write_text(json.dumps(value), encoding="utf-8")
            note.with_suffix(".new").rename(note)
        shutil.rmtree(scratch / "model", ignore_errors=True)
        vault.forget()
        if notice.given():
            # It came too late for this training to stop at, and the next one may not begin.
            raise NightInterruptedError(
                "the training was asked to stop when it had just come to its end",
                where=str(scratch),
                kept="the model that was trained",
                next_command="give the same command again: it is found, and the work goes on from there",
            )
        return Outcome.accepted(cell, value)


def _care(settings: Settings, vault: CheckpointVault) -> Care:
    how = settings.training
    return Care(
        stall_seconds=how.stall_seconds,
        grace_seconds=how.grace_seconds,
        vault=vault,
        store_every=how.store_every,
        resume=how.resume,
        processes=how.processes,
        sharding=how.sharding,
        sampler_url=how.sampler_url,
    )


def _done(store: ObjectStore, note: Path) -> dict[str, Any] | None:
    """What an earlier attempt trained. The cache outlives a root that was begun afresh, and one name may stand for
    two stores: a model that is not in this store was not trained here. So does a note that was cut short count."""
    try:
        value = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) and holds(store, str(value.get("artifact"))) else None


@contextmanager
def _alone(scratch: Path) -> Iterator[None]:
    """Two processes that train one cell would write into each other's checkpoints. A killed one lets go by itself."""
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Stops the stage: as a failure it would cost the cell a try each time that somebody asks.
            raise NightStoppedError(
                "another process is training this very model",
                where=str(scratch),
                kept="everything that is finished, and what the other one has trained so far",
                next_command="wait until it has ended, then give the same command again: what it finished is found",
            ) from None
        yield
