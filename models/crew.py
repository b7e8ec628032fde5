"""One training by several processes of this machine, started for it and gone with it.

They are started by accelerate's launcher with a configuration of infra/deploy/accelerate, take the rows from a private
folder, and leave the model and the checkpoints where one process would. What has to be done once is done here: checks
before anybody is started, the store of checkpoints, the notice to quit, the watch over their watchdogs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from medgr2.infra import notice
from medgr2.models.care import Care, care
from medgr2.models.crew_job import QUIT, Complaint, CrewJob, Method, json_of, last_error, rows_of
from medgr2.models.crew_keeping import Keeping
from medgr2.models.crew_terms import refuse_unshareable
from medgr2.models.exactness import repeatable
from medgr2.models.grader import Grader
from medgr2.models.memory_need import refuse_too_little, spread_of
from medgr2.models.resuming import begin_from
from medgr2.models.training import RECORD, TrainerSettings, notes
from medgr2.models.watch import waiting_for
from medgr2.schemas.errors import NightInterruptedError, NightStoppedError, UsageError

TICK_SECONDS = 0.1
START_SECONDS = 600.0
"""So long the processes may take to be there at all."""
LATER_SECONDS = 60.0
"""Their own watchdogs speak first: they know what was waited for."""
LEAVE_SECONDS = 10.0
LAUNCHER, MEMBER = "medgr2.models.crew_launch", "medgr2.models.crew_member"


def wanted() -> bool:
    """Whether several processes are to share the trainings of this one."""
    return care().processes > 1 and not care().member


def train_together(
    method: Method,
    base: Path,
    rows: Sequence[Any],
    out: Path,
    settings: TrainerSettings,
    batch: int,
    *,
    reference: bool = False,
    grade: Any = None,
) -> dict[str, Any]:
    """What `train_sft` or `train_grpo` makes of the rows, made by several processes. `batch`: rows a micro-batch."""
    if (out / RECORD).is_file():
        return dict(json_of(out / RECORD))
    how = care()
    refuse_unshareable(settings, how.processes, how.sharding, batch)
    spread = spread_of(how.processes, how.sharding, settings.device)
    refuse_too_little(base, settings, getattr(settings, "lora", None), reference=reference, spread=spread)
    folder, scratch = out.with_name(out.name + ".crew"), out.with_name(out.name + ".work")
    scratch.mkdir(parents=True, exist_ok=True)
    with repeatable(settings.device, settings.exact):
        begin_from(scratch, notes(settings, how), how, exact=settings.exact)
    job = CrewJob(
        method=method,
        base=base,
        out=out,
        rows=rows_of(rows),
        settings=settings.model_dump(mode="json"),
        processes=how.processes,
        sharding=how.sharding,
        stall_seconds=how.stall_seconds,
        grace_seconds=how.grace_seconds,
        resume=how.resume,
        grader=_service(grade).told() if grade is not None else {},
    )
    keeping = Keeping(scratch, how, settings.checkpoint_every)
    with _handed_over(job, folder), notice.heeded():
        status = _worked(folder, how, keeping)
        if (out / RECORD).is_file():
            return dict(json_of(out / RECORD))
        raise _failed(folder, status, keeping)


def _service(grade: Any) -> Grader:
    service = getattr(grade, "__self__", None)
    if not isinstance(service, Grader):
        raise UsageError("several processes are graded by a service that each can reach, and this is a function of one")
    return service


@contextlib.contextmanager
def _handed_over(job: CrewJob, folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        job.write(folder)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _worked(folder: Path, how: Care, keeping: Keeping) -> int:
    with _launched(folder, how) as launcher, waiting_for(f"the {how.processes} processes that train"):
        began = time.time()
        while launcher.poll() is None:
            if notice.given():
                (folder / QUIT).touch()
            keeping.look()
            _look_at(folder, how, began, keeping)
            time.sleep(TICK_SECONDS)
        keeping.finish()
        return launcher.returncode


@contextlib.contextmanager
def _launched(folder: Path, how: Care) -> Iterator[subprocess.Popen[bytes]]:
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with as_file(files("medgr2.infra") / "deploy" / "accelerate" / f"{how.sharding}.yaml") as config:
        options = ["--config_file", str(config), "--num_processes", str(how.processes), "--main_process_port", "0"]
        command = [sys.executable, "-m", LAUNCHER, *options, "--module", MEMBER, str(folder)]
        said = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            launcher = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env=os.environ | quiet,
                # A signal to the group is for this process, which passes it on as a notice.
                start_new_session=True,
            )
        finally:
            os.close(said)
        try:
            yield launcher
        finally:
            # The kernel ends the members with it.
            launcher.kill()
            launcher.communicate()


def _look_at(folder: Path, how: Care, began: float, keeping: Keeping) -> None:
    signs = [path.stat().st_mtime for path in folder.glob("alive-*")]
    here = len(signs) == how.processes
    still, limit = time.time() - min(signs, default=began), how.stall_seconds + LATER_SECONDS
    if not here:
        still, limit = time.time() - began, START_SECONDS
    if still > limit:
        what = "gave no sign of life" if here else f"were not all there ({len(signs)} of them)"
        raise NightStoppedError(
            f"the processes that train {what} for {still:.0f} s",
            where=MEMBER,
            kept=keeping.kept(),
            next_command="look at memory and load of the machine, then give the same command again",
        )
    if notice.age() > how.grace_seconds + LEAVE_SECONDS:
        raise NightInterruptedError(
            f"the training was asked to stop, and its {how.processes} processes did not leave within "
            f"{how.grace_seconds + LEAVE_SECONDS:g} s",
            kept=keeping.kept(),
            next_command="give the same command again: it goes on from there",
        )


def _failed(folder: Path, status: int, keeping: Keeping) -> Exception:
    complaint = Complaint.first(folder)
    if complaint is not None and (ours := complaint.error()) is not None:
        return ours
    what = complaint.what if complaint else last_error(folder / "log") or "nothing was said"
    return NightStoppedError(
        f"the processes that train ended with status {status}: {what}",
        where=MEMBER,
        kept=keeping.kept(),
        next_command="mend what is named, then give the same command again; one process trains with "
        "MEDGR2_TRAINING__PROCESSES=1",
    )
