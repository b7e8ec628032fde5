"""One of the processes that share a training: python -m medgr2.models.crew_member FOLDER LAUNCHER, by the launcher.

Each does the same as a training by one process does, with its share of the rows; the first one writes what is written.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

from pydantic import TypeAdapter

from medgr2.infra import notice
from medgr2.models.care import Care, under
from medgr2.models.crew_job import QUIT, Complaint, CrewJob
from medgr2.models.grader import Grader
from medgr2.models.grpo import GrpoSettings, Prompt, train_grpo
from medgr2.models.sft import Example, SftSettings, train_sft

TICK_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1


def main() -> None:
    folder, launcher = Path(sys.argv[1]), int(sys.argv[2])
    _end_with(launcher)
    warnings.simplefilter("ignore")
    threading.Thread(target=_listen, args=(folder,), daemon=True).start()
    try:
        work(CrewJob.read(folder))
    except BaseException as error:
        Complaint.of(error).leave(folder, int(os.environ["RANK"]))
        # Not by way of the interpreter: threads that wait for the other processes would keep it.
        os._exit(1)
    os._exit(0)


def work(job: CrewJob) -> None:
    how = Care(
        stall_seconds=job.stall_seconds,
        grace_seconds=job.grace_seconds,
        resume=job.resume,
        processes=job.processes,
        sharding=job.sharding,
        member=True,
    )
    with under(how):
        if job.method == "sft":
            examples = TypeAdapter(list[Example]).validate_python(job.rows)
            train_sft(job.base, examples, job.out, SftSettings.model_validate(job.settings))
        else:
            prompts = TypeAdapter(list[Prompt]).validate_python(job.rows)
            grade = Grader.reached(job.grader, job.processes).grade if job.grader else None
            train_grpo(job.base, prompts, job.out, GrpoSettings.model_validate(job.settings), grade)


def _end_with(launcher: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(1)  # it ended before the kernel was told


def _listen(folder: Path) -> None:
    """Passes a notice on, and shows that this process is alive: its watchdog can be relied on as long."""
    alive = folder / f"alive-{os.environ['RANK']}"
    while True:
        alive.touch()
        if (folder / QUIT).exists():
            notice.give()
        time.sleep(TICK_SECONDS)


if __name__ == "__main__":
    main()
