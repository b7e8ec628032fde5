"""A Ray cluster that is reached through its Jobs API only: the request goes through the object store, the outcomes
come back through the journal, and a driver that was killed finds its job again by the request's own name."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from medgr2.infra.compute import Work, require_ray
from medgr2.infra.journal import Journal
from medgr2.infra.purse import Purse
from medgr2.infra.settings import PREFIX, Settings
from medgr2.schemas.cells import Cell, Outcome
from medgr2.schemas.errors import NightStoppedError, SettingsError
from medgr2.schemas.vocabulary import Verdict

ENTRYPOINT = "python -m medgr2.tasks.stage_job"
POLL_SECONDS = 2.0
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class RayJob:
    """`request_key` names what medgr2.tasks.stage_job is to do: the same stage, over the same cells."""

    durable = True

    def __init__(self, settings: Settings, journal: Journal, request_key: str, digest: str) -> None:
        require_ray()
        if not settings.compute.address:
            raise SettingsError(
                "ray-job needs the address of a cluster",
                where="MEDGR2_COMPUTE__ADDRESS",
                next_command="set it to the dashboard's address, such as http://head:8265",
            )
        self._settings = settings
        self._journal = journal
        self._key = request_key
        self._digest = digest

    def run(self, work: Work, cells: Sequence[Cell], tries: Mapping[str, int], purse: Purse) -> Iterator[Outcome]:
        """The request holds the budget, and the job has a purse of its own."""
        client = self._client()
        job = self._submit(client, work)
        waiting = {cell.key: tries.get(cell.key, 0) for cell in cells}
        # A batch may be lost and tried again, and a cluster may have to grow first.
        patience = 2 * work.deadline_seconds * work.attempts
        quiet_since, status = time.monotonic(), ""
        while True:
            before, status = status, str(client.get_job_status(job).value)
            news = self._news(waiting)
            yield from news
            if news or status != before:
                quiet_since = time.monotonic()
            if status in ENDED or not waiting:
                break
            if time.monotonic() - quiet_since > patience:
                raise self._stopped(job, f"is {status} and finished nothing for {patience:g} s")
            time.sleep(POLL_SECONDS)
        yield from self._news(waiting)
        if waiting and not (purse.limited and status == "SUCCEEDED"):
            # Too many failures end the job before its last cell: the stage then says so in its own words.
            raise self._stopped(job, f"{status.lower()} with {len(waiting)} cells undone: {_last_line(client, job)}")
        # It says where files lie and what their reports say: nothing that should outlive the job.
        self._journal.store.delete(self._key)

    def _news(self, waiting: dict[str, int]) -> list[Outcome]:
        standings = self._journal.index().standings(list(waiting))
        new = [k for k, s in standings.items() if s.verdict is not Verdict.FAILED or s.attempt > waiting[k]]
        outcomes = list(self._journal.outcomes(new).values()) if new else []
        for outcome in outcomes:
            del waiting[outcome.key]
        return outcomes

    def _client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        address = self._settings.compute.address
        try:
            return JobSubmissionClient(address)
        except Exception as e:
            raise SettingsError(
                f"no Ray cluster answers: {type(e).__name__}: {str(e)[:300]}",
                where=f"MEDGR2_COMPUTE__ADDRESS={address}",
                next_command="check the address and the cluster (its dashboard, port 8265), then run again",
            ) from None

    def _submit(self, client: Any, work: Work) -> str:
        """The job of this request that is under way, or a new one: finished ones are numbered and left in peace."""
        for n in itertools.count():
            job = f"medgr2-{work.recipe.stage}-{self._digest[:24]}-{n}"
            status = _status(client, job)
            if status is None:
                try:
                    client.submit_job(
                        entrypoint=f"{ENTRYPOINT} {self._key}",
                        submission_id=job,
                        runtime_env={"env_vars": job_environment()},
                    )
                except RuntimeError:
                    if _status(client, job) is None:  # not because another driver submitted it just now
                        raise
                return job
            if status not in ENDED:
                return job
        raise AssertionError

    def _stopped(self, job: str, what: str) -> NightStoppedError:
        return NightStoppedError(
            f"the job {job} {what}",
            where=self._settings.compute.address,
            kept="every finished cell, in the journal",
            next_command=f"ray job logs {job}  then the same command again: it finds the job or starts another",
        )


def job_environment() -> dict[str, str]:
    """Our settings, without the secrets: a job's environment can be read on the dashboard. The cluster has its own."""
    hidden = set(_secret_names(Settings, PREFIX))
    return {
        **{
            name: value
            for name, value in os.environ.items()
            if name.startswith("MEDGR2_") and name.upper() not in hidden
        },
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _secret_names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _secret_names(kind, f"{prefix}{name.upper()}__")
        elif "SecretStr" in str(kind):
            yield prefix + name.upper()


def _status(client: Any, job: str) -> str | None:
    try:
        return str(client.get_job_status(job).value)
    except RuntimeError as e:
        if "does not exist" in str(e) or "404" in str(e):
            return None
        raise


def _last_line(client: Any, job: str) -> str:
    lines = [line for line in str(client.get_job_logs(job)).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
