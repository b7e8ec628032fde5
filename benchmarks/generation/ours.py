"""One night of ours, in a process of its own: run_stage with a streamed worker, the HTTP engine and the durable
journal. Prints one JSON line.

python ours.py URL ROOT ROWS IN_FLIGHT [--edited N]            rows of text
python ours.py URL ROOT ROWS IN_FLIGHT --images FILE           pictures, one image id in each line of the file
python ours.py URL ROOT ROWS IN_FLIGHT --finished N            N short rows are there already; ROWS more are asked
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import ComputeSettings, GeneratorSettings, Settings, StorageSettings
from medgr2.schemas.cells import Cell
from medgr2.schemas.errors import Medgr2Error
from medgr2.schemas.reports import Plan
from medgr2.tasks.stage import StageRequest, run_stage


def main() -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("root", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("in_flight", type=int)
    parser.add_argument("--edited", type=int, default=0)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--finished", type=int, default=0)
    told = parser.parse_args()
    settings = Settings(
        storage=StorageSettings(root=str(told.root)),
        compute=ComputeSettings(mode="inline"),
        generator=GeneratorSettings(engine="openai", url=told.url, model="fake", in_flight=told.in_flight),
    )
    request, cells = of(told, settings)
    made = time.monotonic() - began
    plans: list[tuple[float, Plan]] = []
    try:
        result = run_stage(
            request,
            cells,
            settings=settings,
            store=FolderStore(told.root),
            on_plan=lambda plan: plans.append((time.monotonic() - began, plan)),
        )
    except Medgr2Error as e:
        print(e, file=sys.stderr)
        return e.exit_code
    report = result.report
    print(
        json.dumps(
            {
                "kept": report.accepted,
                "failed": report.failed,
                "rejected": report.rejected,
                "reasons": report.reasons,
                "conserved": report.conserved(),
                "new": plans[0][1].new,
                "reused": plans[0][1].reused,
                "cells_after": made,
                "plan_after": plans[0][0],
                "calls": report.usage.calls,
                "journalled": len(Journal(FolderStore(told.root), request.recipe.stage).index()),
            }
        )
    )
    return 0


def of(told: argparse.Namespace, settings: Settings) -> tuple[StageRequest, Sequence[Cell]]:
    if told.images is not None:
        from pictures import asked

        return asked(told.images.read_text().split()[: told.rows], settings)
    from row_worker import RECIPE
    from rows import rows

    from medgr2.infra.compute_stream import room_for

    request = StageRequest(
        recipe=RECIPE, worker="row_worker:RowWorker", run="bench", in_flight=room_for(told.in_flight)
    )
    if told.finished:
        texts = (f"Picture {n}." for n in range(told.finished + told.rows))
    else:
        texts = (row["text"] for row in rows(told.rows, edited=told.edited))
    return request, [RECIPE.cell(inputs={"text": text}) for text in texts]


if __name__ == "__main__":
    sys.exit(main())
