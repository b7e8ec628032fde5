"""Takes a folder in and dies at a chosen write: python ingest_driver.py SOURCE WRITES_TO_LIVE [ANSWERS ...] (0: lives).

After each so many answers of the reading process it is ended from outside, whatever it is at.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.pictures.sandbox_process import SandboxProcess
from medgr2.infra.workspace import open_workspace
from medgr2.schemas.intake import IntakeParameters, ReadingRules
from medgr2.tasks.intake import survey
from medgr2.tasks.intake.ingest import ingest

survey.WINDOW = 20
writes_left = int(sys.argv[2])
kills = [int(answers) for answers in sys.argv[3:]]


def counted(write: Callable[..., Any]) -> Callable[..., Any]:
    """Dies before or after every write, by turns."""

    def writes(*arguments: Any, **named: Any) -> Any:
        global writes_left
        writes_left -= 1
        if writes_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        done = write(*arguments, **named)
        writes_left -= 1
        if writes_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return writes


def deadly(exchange: Callable[..., Any]) -> Callable[..., Any]:
    heard = 0

    def exchanges(process: SandboxProcess, seconds: float) -> Any:
        nonlocal heard
        answers = exchange(process, seconds)
        heard += len(answers)
        if answers and kills and heard >= kills[0]:  # no file has two readers ended
            kills.pop(0)
            os.kill(process._process.pid, signal.SIGKILL)
        return answers

    return exchanges


SandboxProcess.exchange = deadly(SandboxProcess.exchange)  # type: ignore[method-assign]
for kind, names in ((FolderStore, ("put", "put_all", "create")), (Lake, ("commit", "_merge"))):
    for name in names:
        setattr(kind, name, counted(getattr(kind, name)))

# No file takes so long, whatever the machine does.
parameters = IntakeParameters(reports="keep", rules=ReadingRules(seconds=400))
report = ingest(open_workspace(), sys.argv[1], "", parameters, run="x", announce=lambda plan: None)
assert not kills
print(report.model_dump_json())
