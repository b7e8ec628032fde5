"""Workers that misbehave on purpose. Each writes a line per execution, so that a test can count them."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path

from medgr2.infra.settings import Settings
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import StorageError


class Counting:
    """Squares `n`; `do` in the inputs says how to misbehave."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._log = Path(settings.storage.root).parent / "executions.log"
        self._seconds = float(os.environ.get("STAGE_SECONDS", str(recipe.parameters.get("seconds", 0))))

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        for cell in cells:
            yield self._one(cell)

    def _one(self, cell: Cell) -> Outcome:
        do = cell.inputs.get("do")
        with self._log.open("a") as f:
            f.write(f"{cell.key} {os.getpid()} {time.time():.6f}\n")
        time.sleep(self._seconds)
        n = cell.inputs["n"]
        if do == "raise":
            raise ValueError(f"the patient is called {n}")
        if do == "bucket":
            raise StorageError("the bucket is gone", where="s3://b", next_command="bring it back")
        if do == "die":
            os.kill(os.getpid(), 9)
        if do == "hang":
            time.sleep(3600)
        if do == "reject":
            return Outcome.rejected(cell, "no_good", value={"n": n})
        if do == "nan":
            return Outcome.accepted(cell, {"n": float("nan")})
        return Outcome.accepted(cell, {"square": n * n, "seed": cell.seed % 1000, "pair": (n, n)})


class Unbuildable:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        raise RuntimeError("no such model")

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        return []


class Stillborn(Unbuildable):
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        os.kill(os.getpid(), 9)


class Forgetful(Counting):
    """Leaves one cell out and tells of cells that nobody asked for."""

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        stranger = Recipe(stage="other", code="1").cell(inputs={"n": 0})
        yield Outcome.accepted(stranger, {})
        for cell in cells:
            if cell.inputs.get("do") != "forget":
                yield self._one(cell)
                yield Outcome.rejected(cell, "said_twice")


class Parting(Counting):
    """Writes a letter at the end of its life, which is not that of its process: to this nobody would listen."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        super().__init__(recipe, settings)
        self._itself = self  # as a model's parts know each other
        weakref.finalize(self, _part, self._log.with_name("parted")).atexit = False


def _part(letter: Path) -> None:
    with letter.open("a") as f:
        f.write("1")


class Environment:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        pass

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        names = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MEDGR2_MODELS__BASE")}
        return [Outcome.accepted(cell, {**names, "pid": os.getpid()}) for cell in cells]
