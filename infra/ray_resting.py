"""Worker processes between two stages: what a small stage costs is mostly their start, and what they import."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from medgr2.infra.compute import Resources
from medgr2.infra.memory import available
from medgr2.infra.ray_local import cores

SHARE = 8
"""All of them together take one part in so many of the memory that is left: it may be needed elsewhere."""
ANSWER_SECONDS = 10.0
"""Who rests has nothing else to do than to answer."""


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


@dataclass(frozen=True, slots=True)
class _AtRest:
    kind: Kind
    actor: Any
    bytes: int


class Resting:
    """Those of this process's own Ray; with it they end. No more than there are cores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[_AtRest] = []

    def take(self, kind: Kind) -> Any | None:
        """Who came last, if he still answers."""
        while (actor := self._pop(kind)) is not None:
            if _answers([actor.place.remote()]):
                return actor
            end(actor)
        return None

    def keep(self, kind: Kind, actors: Sequence[Any]) -> None:
        """They have nothing to do. Who does not answer or finds no room ends; on an interrupt all of them."""
        leaving = list(actors)
        try:
            asked = [(actor, actor.rest.remote()) for actor in actors]
            sizes = _answers([resting for _, resting in asked])
            tired = [_AtRest(kind, actor, sizes[resting]) for actor, resting in asked if resting in sizes]
            leaving = [actor for actor, resting in asked if resting not in sizes] + self._add(tired)
        finally:
            for actor in leaving:
                end(actor)

    def _pop(self, kind: Kind) -> Any | None:
        with self._lock:
            for i in reversed(range(len(self._all))):
                if self._all[i].kind == kind:
                    return self._all.pop(i).actor
        return None

    def _add(self, tired: Sequence[_AtRest]) -> list[Any]:
        """Who finds no room: those who came last are asked first."""
        node = ray.get_runtime_context().get_node_id()
        with self._lock:
            here = [one for one in self._all if one.kind.node == node]
            room = ((available() or 0) + sum(one.bytes for one in (*here, *tired))) // SHARE
            staying: list[_AtRest] = []
            leaving = []
            for one in reversed([*here, *tired]):
                if len(staying) < cores() and one.bytes <= room:
                    staying.insert(0, one)
                    room -= one.bytes
                else:
                    leaving.append(one.actor)
            self._all = staying
        return leaving


def _answers(asked: Sequence[Any]) -> dict[Any, Any]:
    if not asked:
        return {}
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    found = {}
    for answer in ready:
        with contextlib.suppress(ray.exceptions.RayError):
            found[answer] = ray.get(answer)
    return found


def end(actor: Any) -> None:
    with contextlib.suppress(ray.exceptions.RayError, ValueError):
        ray.kill(actor, no_restart=True)


RESTING = Resting()
