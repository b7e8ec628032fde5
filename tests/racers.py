"""Child processes of the race and kill tests: `python racers.py <what> ...`, storage from the environment.

append <once> <n>          append n rows to items under one name, print whether it was us
append-new <seed> <n>      append overlapping rows to items in several goes, print how many were new
publish <who> <n>          n publishes of one item each into 'ds', print their versions
killed <op> <when>         one publish, killed by SIGKILL before or after its op-th write
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import StorageSettings, load_settings
from medgr2.infra.versions import publish


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def append(lake: Lake, once: str, n: str) -> None:
    say(lake.append("items", [{"item_id": f"{once}-{i}"} for i in range(int(n))], once=once))


def append_new(lake: Lake, seed: str, n: str) -> None:
    order = [f"item-{i:03d}" for i in range(int(n))]
    random.Random(seed).shuffle(order)
    size = max(1, int(n) // 4)
    goes = [order[i : i + size * 2] for i in range(0, len(order), size)]
    say(sum(lake.append_new("items", [{"item_id": i, "run": seed} for i in go], key="item_id") for go in goes))


def publishes(lake: Lake, who: str, n: str) -> None:
    for i in range(int(n)):
        say(publish(lake, dataset="ds", add=[f"{who}-{i}"], card={}, run=f"{who}-{i}").version)


def killed(lake: Lake, op: str, when: str) -> None:
    """Counts every write of the publish, on the object store and on the lake, and dies at the one asked for."""
    import deltalake

    done = 0

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done == int(op) and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if done == int(op) and when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    stores: list[type] = [FolderStore]
    if lake.storage.is_s3:
        from medgr2.infra.objects_s3 import S3Store

        stores = [S3Store]
    for store in stores:
        for name in ("put", "create", "delete", "put_file"):
            setattr(store, name, deadly(getattr(store, name)))
    deltalake.write_deltalake = deadly(deltalake.write_deltalake)
    deltalake.DeltaTable.create = deadly(deltalake.DeltaTable.create)  # type: ignore[method-assign]
    version = publish(lake, dataset="ds", add=["c", "d"], remove=["a"], card={"n": 2}, run="night-2")
    say(f"{version.ref} after {done} writes")


def opened(lake: Lake, table: str) -> Any:
    """The table's own Delta handle, to look at it or to damage it."""
    with Lake(lake.storage).state(table, write=True) as delta:
        return delta


def race(storage: StorageSettings, *commands: list[str]) -> list[str]:
    from storage_fixtures import environment

    children = [
        subprocess.Popen(
            [sys.executable, __file__, *command],
            env=environment(storage),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    said = []
    for child in children:
        out, err = child.communicate(timeout=900)
        assert child.returncode == 0, err
        said.append(out)
    return said


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    jobs = {"append": append, "append-new": append_new, "publish": publishes, "killed": killed}
    jobs[what](Lake(load_settings().storage), *arguments)
