"""Trains and evaluates in a process that writes down every file it opens and every module it loads."""

from __future__ import annotations

import json
import sys
from typing import Any

opened: set[str] = set()


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        opened.add(arguments[0])


sys.addaudithook(watch)

from small_loop import parameters  # noqa: E402

from medgr2.infra.versions import resolve  # noqa: E402
from medgr2.infra.workspace import open_workspace  # noqa: E402
from medgr2.tasks import improve, promotion  # noqa: E402
from medgr2.tasks.appraise import appraise  # noqa: E402
from medgr2.tasks.night import open_night  # noqa: E402

how = parameters(seed=5, cycles=1)
tonight = how.night(1)
workspace = open_workspace()
night = open_night(workspace, tonight)
version = resolve(workspace.lake, "loop")
# Another seed, so that training is really done and not found in the journal.
candidate = improve.train_policy(workspace, night, version, how.train, 99, lambda plan: None).model_id
generator = improve.train_generator(workspace, night, version, how.train, 99, lambda plan: None)
appraise(workspace, night, tonight, None, lambda plan: None)
promotion.settle(workspace, night, candidate, promotion.sit(workspace, night, candidate, lambda plan: None))
print(json.dumps({"opened": sorted(opened), "modules": sorted(sys.modules), "trained": [candidate, generator]}))
