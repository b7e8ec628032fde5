"""The other end of ray-job: `python -m medgr2.tasks.stage_job REQUEST_KEY`, run on the cluster by its Jobs API."""

from __future__ import annotations

import sys

from medgr2.infra.compute_ray import RayPool
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings, load_settings
from medgr2.schemas.errors import ExitCode, Medgr2Error
from medgr2.tasks.stage import run_stage
from medgr2.tasks.stage_request import read_request


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m medgr2.tasks.stage_job REQUEST_KEY\n")
        return ExitCode.USAGE
    try:
        settings = load_settings()
        store = open_store(settings.storage)
        request, cells, limit = read_request(store, arguments[0])
        result = run_stage(
            request,
            cells,
            settings=_here(settings),
            store=store,
            compute=RayPool.cluster(settings) if request.in_flight is None else None,
            budget=limit.budget,
            since=limit.since,
        )
    except Medgr2Error as e:
        # The last line of a job's log is what its driver quotes.
        sys.stderr.write(f"{e}\n{e.what}\n")
        return e.exit_code
    sys.stdout.write(result.report.line() + "\n")
    return ExitCode.OK


def _here(settings: Settings) -> Settings:
    """The job is where its settings say that the work is done: it starts no other."""
    return settings.model_copy(update={"compute": settings.compute.model_copy(update={"mode": "inline"})})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
