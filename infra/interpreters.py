"""Another environment's Python, in which workers are to live: what it has, and whether it fits ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from medgr2.schemas.errors import SettingsError

SETTING = "MEDGR2_GENERATOR__PYTHON"
MAKE = f"make vllm-env  and set {SETTING}=.venv-vllm/bin/python"
IMPORT_SECONDS = 180
_QUIET = {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
_LOOK = """
import importlib, json, sys
found = {"python": "%d.%d" % sys.version_info[:2], "versions": {}, "why": ""}
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        found["versions"][name] = str(getattr(module, "__version__", ""))
    except Exception as e:
        found["why"] = found["why"] or "%s: %s" % (name, type(e).__name__)
print("found " + json.dumps(found))
"""


class Interpreter(BaseModel):
    model_config = ConfigDict(frozen=True)

    python: str
    versions: dict[str, str]
    why: str
    """The first module that could not be imported, and what it raised."""


def look_at(python: Path, modules: Sequence[str]) -> Interpreter:
    """Runs it, and imports these modules there."""
    if not os.access(python, os.X_OK):
        raise SettingsError(f"no interpreter at {python}", where=SETTING, next_command=MAKE)
    try:
        done = subprocess.run(
            [str(python), "-c", _LOOK, *modules],
            env=os.environ | _QUIET,
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise SettingsError(
            f"{python} imported nothing within {IMPORT_SECONDS} s",
            where=SETTING,
            next_command="look at the load of this machine, then run again",
        ) from None
    except OSError as e:
        raise SettingsError(f"{python} cannot be run: {type(e).__name__}", where=SETTING, next_command=MAKE) from None
    said = next((line for line in done.stdout.splitlines() if line.startswith("found ")), "")
    if not said:
        raise SettingsError(f"{python} ended with {done.returncode} and said nothing", where=SETTING, next_command=MAKE)
    return Interpreter.model_validate(json.loads(said.removeprefix("found ")))


def check_worker_python(python: Path, modules: Sequence[str] = (), *, ray: bool = True) -> Interpreter:
    """An interpreter that does not fit is refused by Ray without a word, until the stage's deadline."""
    found = look_at(python, (*(("ray",) if ray else ()), "medgr2.schemas.cells", *modules))
    if found.why:
        raise SettingsError(f"{python} cannot import {found.why}", where=SETTING, next_command=MAKE)
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if found.python != ours:
        raise SettingsError(
            f"{python} is Python {found.python}, and ours is {ours}: what one pickles the other cannot read",
            where=SETTING,
            next_command=f"PYTHON=python{ours} make vllm-env",
        )
    if ray and found.versions["ray"] != (our_ray := _our_ray()):
        raise SettingsError(
            f"{python} has ray {found.versions['ray']}, and ours is {our_ray}: they have to be the same",
            where=SETTING,
            next_command=MAKE,
        )
    return found


def _our_ray() -> str:
    try:
        return version("ray")
    except PackageNotFoundError:
        return "not installed"
