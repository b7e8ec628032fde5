"""A Ray of this process alone: started once, closed to others by a token of its own, gone when the process is gone."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from medgr2.schemas.errors import Medgr2Error, NightStoppedError

STARTS, START_SECONDS = 3, 180
PATIENCE = {"RAY_gcs_server_port_wait_time_s": "100", "RAY_agent_register_timeout_ms": "100000"}
"""Ray gives up the start of its own processes after thirty seconds, for which a busy machine may well stand still."""
OBJECT_STORE_BYTES = 128 << 20
"""Outcomes are small and images travel by reference: the object store only has to exist."""
_PREFIX = "medgr2-ray-"
_lock = threading.Lock()
_held: list[IO[str]] = []


def cores() -> int:
    return len(os.sched_getaffinity(0))


def start_ray() -> None:
    """Start Ray if this process has none yet, and wait until it answers."""
    import ray

    with _lock:
        for left in reversed(range(STARTS)):
            if ray.is_initialized():
                return
            try:
                _start()
            except _GaveUpError as e:
                ray.shutdown()
                if not left:
                    raise _not_started(str(e)) from e.__cause__


def keep_stdout() -> None:
    """Before Ray starts: it prints its view of dead workers and nodes to stdout, where --json belongs.

    We report the dead as outcomes.
    """
    import ray._private.worker as internals

    internals.listen_error_messages = lambda *_: None


class _GaveUpError(Exception):
    pass


def _start() -> None:
    done = threading.Event()
    failure: list[BaseException] = []
    # The kernel ends Ray's processes when the thread that started them ends (PR_SET_PDEATHSIG), so that a killed
    # driver leaves none behind: workers end within seconds, two idle agents after a minute, in which they try to
    # report the death to a daemon that is gone as well. A task's thread may end long before the process: this one
    # never does, unless Ray did not start.
    threading.Thread(target=_keep_ray, args=(done, failure), name="ray-keeper", daemon=True).start()
    if not done.wait(START_SECONDS):
        raise _not_started(f"no answer within {START_SECONDS} s")
    if failure:
        raise _GaveUpError(f"{type(failure[0]).__name__}: {str(failure[0])[:500]}") from failure[0]
    _listen_again()


def _listen_again() -> None:
    """Ray's core takes SIGTERM for itself and aborts the process on it: whoever heard it before hears it again."""
    before = signal.getsignal(signal.SIGTERM)
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _keep_ray(done: threading.Event, failure: list[BaseException]) -> None:
    import ray

    try:
        logging.getLogger("ray").setLevel(logging.ERROR)
        keep_stdout()
        with _environment(
            OMP_NUM_THREADS="1",
            RAY_USAGE_STATS_ENABLED="0",
            **PATIENCE,
            **_token(),
        ):
            ray.init(
                address="local",
                namespace=f"medgr2-{os.getpid()}",
                include_dashboard=False,
                configure_logging=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(_own_folder()),
            )
    except BaseException as e:
        failure.append(e)
        return
    finally:
        done.set()
    threading.Event().wait()


@functools.cache
def _token() -> dict[str, str]:
    """Ray listens on all addresses. Its default token is a file in HOME, which two first starts at once tear.

    One for all starts: Ray remembers it, and names its mode in the environment at the first.
    """
    return {} if "RAY_AUTH_MODE" in os.environ else {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _own_folder() -> Path:
    """Ray's sockets and logs. A lock marks it as in use; those whose process is gone are removed.

    So are those without a lock: Ray's daemons, when they end, write to what was removed.
    """
    base = Path(tempfile.gettempdir())
    for old in base.glob(f"{_PREFIX}{os.getuid()}-*"):
        with contextlib.suppress(OSError), (old / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    while True:
        # Short: a socket's path may have 107 characters, and Ray adds some 60.
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-", dir=base))
        # Until it is locked, another process that clears up may take the folder for one left behind.
        with contextlib.suppress(FileNotFoundError):
            held = (folder / "lock").open("w")
            fcntl.flock(held, fcntl.LOCK_EX)
            if (folder / "lock").exists():
                _held.append(held)
                atexit.register(_close, folder)
                return folder
            held.close()


def _close(folder: Path) -> None:
    import ray

    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _environment(**names: str) -> Iterator[None]:
    """Ray's processes inherit these; this process goes on as it was."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _not_started(why: str) -> Medgr2Error:
    return NightStoppedError(
        f"the local Ray did not start: {why}",
        where="MEDGR2_COMPUTE__MODE=ray-local",
        kept="every finished cell",
        next_command="free memory or processes and run again, or set MEDGR2_COMPUTE__MODE=inline",
    )
