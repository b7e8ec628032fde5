"""Worker processes between two stages: what a small stage costs is mostly their start, and what they import."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from medgr2.infra.compute import Resources
from medgr2.infra.ray_local import cores

KEPT_BYTES = 1 << 30
"""A process that takes more when it rests holds what somebody else may need: it ends."""
REST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Kind:
    """Processes of one kind may take each other's place."""

    node: str
    """Of this Ray: handles of one that was shut down are of no use to the next."""
    threads: int

    @classmethod
    def of(cls, resources: Resources) -> Kind | None:
        """None where only the end of the process surely gives back what it holds, or where it has an interpreter
        of its own."""
        if resources.gpus or resources.python:
            return None
        return cls(ray.get_runtime_context().get_node_id(), threads(resources))


def threads(resources: Resources) -> int:
    return max(1, int(resources.cpus))


class Resting:
    """Those of this process's own Ray; with it they end. No more than there are cores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actors: list[tuple[Kind, Any]] = []

    def take(self, kind: Kind) -> Any | None:
        with self._lock:
            of_kind = [i for i, (found, _) in enumerate(self._actors) if found == kind]
            return self._actors.pop(of_kind[-1])[1] if of_kind else None

    def keep(self, kind: Kind, actors: Sequence[Any]) -> None:
        """They have nothing to do."""
        asked = [(actor, actor.rest.remote()) for actor in actors]
        for actor, resting in asked:
            try:
                small = ray.get(resting, timeout=REST_SECONDS) <= KEPT_BYTES
            except ray.exceptions.RayError:
                small = False
            with self._lock:
                self._actors = [one for one in self._actors if one[0].node == kind.node]
                if small and len(self._actors) < cores():
                    self._actors.append((kind, actor))
                    continue
            end(actor)


def end(actor: Any) -> None:
    with contextlib.suppress(ray.exceptions.RayError, ValueError):
        ray.kill(actor, no_restart=True)


RESTING = Resting()
