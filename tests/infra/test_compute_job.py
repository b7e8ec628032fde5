"""ray-job without a cluster: what it refuses, what it tells a job, and how it reads the journal. See tests/crash for
the real one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medgr2.infra import compute_job
from medgr2.infra.compute import Work
from medgr2.infra.compute_job import RayJob, job_environment
from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.purse import Purse
from medgr2.infra.settings import ComputeSettings, Settings
from medgr2.schemas.cells import Outcome, Recipe
from medgr2.schemas.errors import NightStoppedError, SettingsError
from medgr2.schemas.usage import Budget
from medgr2.schemas.vocabulary import Verdict

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

RECIPE = Recipe(stage="squares", code="1")
CELLS = [RECIPE.cell(inputs={"n": n}) for n in range(3)]
WORK = Work(recipe=RECIPE, worker="x:Y", attempts=1)
IMPATIENT = Work(recipe=RECIPE, worker="x:Y", attempts=1, deadline_seconds=0.2)
SETTINGS = Settings(compute=ComputeSettings(mode="ray-job", address="http://127.0.0.1:1"))


class Cluster:
    """The four calls that we make of the Jobs API, and a life for the job: a status and what it journals then."""

    def __init__(self, journal: Journal, life: list[tuple[str, list[Outcome]]], ended: tuple[str, ...] = ()) -> None:
        self.journal, self.life, self.ended = journal, life, ended
        self.submitted: list[dict[str, Any]] = []

    def get_job_status(self, job: str) -> Any:
        n = int(job.rpartition("-")[2])
        if n < len(self.ended):
            return SimpleNamespace(value=self.ended[n])
        if not self.submitted:
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist")
        status, outcomes = self.life.pop(0) if len(self.life) > 1 else self.life[0]
        self.journal.append(outcomes)
        return SimpleNamespace(value=status)

    def submit_job(self, **job: Any) -> None:
        self.submitted.append(job)

    def get_job_logs(self, job: str) -> str:
        return "plan\nthe worker could not be built\n\n"


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setattr(compute_job, "POLL_SECONDS", 0.01)
    return Journal(FolderStore(tmp_path), "squares")


def run(
    journal: Journal,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    tries: dict[str, int],
    budget: Budget | None = None,
    work: Work = WORK,
) -> list[Outcome]:
    monkeypatch.setattr(RayJob, "_client", lambda _: cluster)
    job = RayJob(SETTINGS, journal, "requests/squares/d.json.gz", "d" * 64)
    return list(job.run(work, CELLS, tries, Purse(budget)))


def test_outcomes_come_once_each_from_the_journal(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Outcome(CELLS[2].key, Verdict.FAILED, None, ("ValueError",), "", 1)
    journal.append([old])
    first, second = (Outcome.accepted(c, {}) for c in CELLS[:2])
    again = Outcome(CELLS[2].key, Verdict.FAILED, None, ("ValueError",), "", 2)
    cluster = Cluster(journal, [("PENDING", []), ("RUNNING", [first]), ("RUNNING", []), ("SUCCEEDED", [second, again])])
    outcomes = run(journal, cluster, monkeypatch, {CELLS[2].key: 1})
    assert outcomes[0] == first
    assert {o.key: o.attempt for o in outcomes} == {CELLS[0].key: 1, CELLS[1].key: 1, CELLS[2].key: 2}
    assert len(outcomes) == 3
    assert [job["entrypoint"] for job in cluster.submitted] == [
        "python -m medgr2.tasks.stage_job requests/squares/d.json.gz"
    ]


def test_an_ended_job_of_the_same_request_gets_a_successor(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    done = [Outcome.accepted(c, {}) for c in CELLS]
    cluster = Cluster(journal, [("SUCCEEDED", done)], ended=("FAILED", "SUCCEEDED"))
    assert len(run(journal, cluster, monkeypatch, {})) == 3
    assert [job["submission_id"] for job in cluster.submitted] == [f"medgr2-squares-{'d' * 24}-2"]


def test_a_job_that_dies_is_quoted_after_its_outcomes_were_taken(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(journal, [("RUNNING", [Outcome.accepted(CELLS[0], {})]), ("FAILED", [])])
    with pytest.raises(NightStoppedError, match="failed with 2 cells undone: the worker could not be built"):
        run(journal, cluster, monkeypatch, {})


def test_what_a_budget_leaves_is_no_failure_of_the_job(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Outcome.accepted(CELLS[0], {})
    cluster = Cluster(journal, [("RUNNING", [first]), ("SUCCEEDED", [])])
    assert run(journal, cluster, monkeypatch, {}, Budget(calls=1)) == [first]
    with pytest.raises(NightStoppedError, match="failed with 2 cells undone"):
        run(journal, Cluster(journal, [("FAILED", [])]), monkeypatch, {CELLS[0].key: 1}, Budget(calls=1))


def test_a_job_that_never_moves_is_given_up(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NightStoppedError, match="is PENDING and finished nothing"):
        run(journal, Cluster(journal, [("PENDING", [])]), monkeypatch, {}, work=IMPATIENT)


def test_no_address_and_no_cluster_are_settings_errors(journal: Journal) -> None:
    with pytest.raises(SettingsError, match="needs the address"):
        RayJob(Settings(compute=ComputeSettings(mode="ray-job")), journal, "k", "d")
    with pytest.raises(SettingsError, match="no Ray cluster answers"):
        list(RayJob(SETTINGS, journal, "k", "d").run(WORK, CELLS, {}, Purse()))


def test_a_job_is_told_every_setting_but_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", "s3://bucket")
    for name in ("STORAGE__S3__SECRET_ACCESS_KEY", "STORAGE__S3__ACCESS_KEY_ID", "PRIVACY__PATIENT_KEY"):
        monkeypatch.setenv(f"MEDGR2_{name}", "hush")
    told = job_environment()
    assert told["MEDGR2_STORAGE__ROOT"] == "s3://bucket"
    assert "hush" not in told.values()
