"""Takes a folder in and dies at a chosen write: python ingest_driver.py SOURCE WRITES_TO_LIVE (0: lives)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.workspace import open_workspace
from medgr2.schemas.intake import IntakeParameters
from medgr2.tasks.intake import survey
from medgr2.tasks.intake.ingest import ingest

survey.WINDOW = 20
writes_left = int(sys.argv[2])


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


for kind, names in ((FolderStore, ("put", "put_all", "create")), (Lake, ("commit", "_merge"))):
    for name in names:
        setattr(kind, name, counted(getattr(kind, name)))

parameters = IntakeParameters(reports="keep")
report = ingest(open_workspace(), sys.argv[1], "", parameters, run="x", announce=lambda plan: None)
print(report.model_dump_json())
