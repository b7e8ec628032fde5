"""Checkpoints that a SIGKILL cannot spoil: written under another name, made durable, then renamed.

A checkpoint of the trainer holds optimizer and random states in torch's own format. They stay in the scratch folder
of the run and in the vault, are only ever read back with `weights_only=True`, and are deleted when the run is done.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medgr2.infra.checkpoint_vault import CheckpointVault
from medgr2.models import ranks
from medgr2.schemas.errors import DataError

PREFIX = "checkpoint-"
SEAL = "complete.json"
KEEP = 2
PICKLED = "training_args.bin"
"""Nothing reads it, and reading it would run what is in it."""

log = logging.getLogger(__name__)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose every file has the size that was sealed; leftovers of a kill are passed over."""
    found = sorted(folder.glob(f"{PREFIX}*"), key=step_of, reverse=True) if folder.is_dir() else []
    return next((path for path in found if _is_whole(path)), None)


def drop_leftovers(folder: Path) -> None:
    """Remove what a killed run left behind, so that the trainer's own look round finds whole checkpoints only."""
    for path in folder.glob("writing-*"):
        shutil.rmtree(path)
    for path in folder.glob(f"{PREFIX}*"):
        if not _is_whole(path):
            shutil.rmtree(path)


def drop_all(folder: Path) -> None:
    for path in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(path)


def fetch_newer(folder: Path, vault: CheckpointVault) -> None:
    """What this training, on a machine that was lost, has stored beyond the checkpoints that lie here."""
    latest = latest_checkpoint(folder)
    here = step_of(latest) if latest else 0
    for one in vault.kept():
        if one.step <= here:
            return
        writing = folder / f"writing-{one.step}"
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        try:
            vault.fetch(one, writing)
        except DataError as damaged:
            log.warning("%s", damaged.what)
            shutil.rmtree(writing)
            vault.drop(one)  # so that the same step is stored again when the training comes to it
            continue
        (writing / SEAL).unlink(missing_ok=True)
        seal(writing, folder / f"{PREFIX}{one.step}")
        return


def step_of(path: Path) -> int:
    tail = path.name.removeprefix(PREFIX)
    return int(tail) if tail.isdecimal() else -1


def _is_whole(path: Path) -> bool:
    try:
        sealed = json.loads((path / SEAL).read_text(encoding="utf-8"))
        return all((path / name).stat().st_size == size for name, size in sealed.items())
    except (OSError, ValueError, AttributeError):
        return False


def seal(written: Path, final: Path) -> None:
    """Make `written` durable and give it its final name; a reader sees all of it or none."""
    sizes = {}
    for path in sorted(written.rglob("*")):
        if path.is_file():
            _to_disk(path)
            sizes[str(path.relative_to(written))] = path.stat().st_size
    note = written / SEAL
    note.write_text(json.dumps(sizes), encoding="utf-8")
    _to_disk(note)
    rename_whole(written, final)


def rename_whole(written: Path, final: Path) -> None:
    if final.exists():
        shutil.rmtree(final)
    _to_disk(written)
    written.rename(final)
    _to_disk(final.parent)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def durable(
    trainer_class: type[Any],
    beside: dict[str, dict[str, str]],
    sealed: Callable[[Path, int, list[dict[str, Any]]], None],
) -> type[Any]:
    """The trainer class with its checkpoints sealed, each with the files `beside` it. `sealed` hears of each: where it
    lies, its step and what was logged. A factory, since the class is known only once TRL is imported."""

    class Durable(trainer_class):
        _diverted: Path | None = None

        def _get_output_dir(self, trial: Any) -> str:
            return str(self._diverted) if self._diverted else str(super()._get_output_dir(trial))

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """No card a checkpoint: it would say nothing of the data, which the registry does."""

        def _send_telemetry(self) -> None:
            """Nobody is told that a hospital trains, whatever the environment of the process says."""

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            folder, name = Path(self.args.output_dir), f"{PREFIX}{self.state.global_step}"
            with self._divert(folder / f"writing-{self.state.global_step}") as writing:
                super()._save_checkpoint(model, trial)
                ranks.meet()  # each process has written its part
                if ranks.first():
                    (writing / name / PICKLED).unlink(missing_ok=True)
                    for file, content in beside.items():
                        (writing / name / file).write_text(json.dumps(content, sort_keys=True), encoding="utf-8")
                    seal(writing / name, folder / name)
            if ranks.first():
                for old in sorted(folder.glob(f"{PREFIX}*"), key=step_of)[:-KEEP]:
                    shutil.rmtree(old)
            sealed(folder / name, self.state.global_step, self.state.log_history)
            ranks.meet()

        @contextlib.contextmanager
        def _divert(self, writing: Path) -> Iterator[Path]:
            if ranks.first():
                shutil.rmtree(writing, ignore_errors=True)
            ranks.meet()
            self._diverted = writing
            try:
                yield writing
            finally:
                self._diverted = None
                if ranks.first():
                    shutil.rmtree(writing, ignore_errors=True)

    Durable.__name__ = trainer_class.__name__
    return Durable
