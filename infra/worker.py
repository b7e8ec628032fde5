"""The worker's side of a batch: building a worker from its import path, and holding it to its contract."""

from __future__ import annotations

import importlib
import json
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from medgr2.infra.journal_segment import value_text
from medgr2.infra.settings import Settings
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import Medgr2Error, MissingExtraError, NightStoppedError, SettingsError, StorageError
from medgr2.schemas.vocabulary import Verdict

STOPPING = (SettingsError, StorageError, MissingExtraError, NightStoppedError)
"""No cell is to blame: a lost bucket would cost every cell an attempt. A worker that raises one stops the stage."""

Worker: TypeAlias = Callable[[Any], Iterable[Outcome]]
"""Called with a Sequence[Cell] or, where its stage is streamed, with an Iterable[Cell | None]."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a batch ended before all its cells had an outcome. Holds no data: a class name and a place in the code."""

    reason: str
    detail: str


def build_worker(path: str, recipe: Recipe, settings: Settings) -> Worker:
    """One error when it cannot be built, however many cells wait for it."""
    module, _, name = path.partition(":")
    try:
        worker: Worker = getattr(importlib.import_module(module), name)(recipe, settings)
    except Medgr2Error:
        raise
    except Exception as e:
        trouble = trouble_of(e)
        raise NightStoppedError(
            f"the worker of stage {recipe.stage} could not be built: {trouble.reason}: {str(e)[:500]}",
            where=f"{path}, {trouble.detail}",
            kept="every cell that was finished before",
            next_command="medgr2 doctor, then the same command again",
        ) from e
    return worker


def work_through(worker: Worker, batch: Sequence[Cell]) -> Iterator[Outcome | Trouble]:
    """Each cell's first outcome as it comes, checked; then, when some are missing, what went wrong."""
    return answers(worker, batch, {cell.key: cell for cell in batch})


def answers(
    worker: Worker, given: Iterable[Cell | None], waiting: MutableMapping[str, Cell]
) -> Iterator[Outcome | Trouble]:
    """The same for cells that are handed out as they are drawn: `waiting` holds those without an outcome."""
    try:
        told = worker(given)
        try:
            for outcome in told:
                if not isinstance(outcome, Outcome):
                    raise TypeError("a worker yields outcomes and nothing else")
                if waiting.pop(outcome.key, None) is not None:
                    yield as_stored(outcome)
        finally:
            if isinstance(told, Generator):
                told.close()  # now, and not when its memory is looked at: it may hold connections
    except (GeneratorExit, KeyboardInterrupt, MemoryError, *STOPPING):
        raise
    except BaseException as e:
        yield trouble_of(e)
        return
    if waiting:
        yield Trouble("no_outcome", "the worker returned without an outcome for the cell")


def as_stored(outcome: Outcome) -> Outcome:
    """What the journal would give back: a fresh outcome and a reused one never differ, tuples and NaN included."""
    try:
        value = outcome.value
        if value is not None:
            text = value_text(value)
            text.encode()
            value = json.loads(text)
        return Outcome(
            outcome.key,
            outcome.verdict,
            value,
            tuple(map(printable, outcome.reasons)),
            printable(outcome.detail),
            outcome.attempt,
            outcome.usage,
        )
    except (TypeError, ValueError) as e:
        return Outcome(outcome.key, Verdict.FAILED, None, ("value_not_json",), type(e).__name__)


def trouble_of(error: BaseException) -> Trouble:
    """The message of an exception may quote a patient's report: only its class and its place leave the process."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "site-packages" not in f.filename and f.filename[0] != "<"] or list(frames)
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} in {ours[-1].name}" if ours else "no traceback"
    return Trouble(type(error).__name__, place)


def printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
